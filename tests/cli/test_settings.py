"""Settings are what the environment says, or a sentence about what is wrong with it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import main
from app.domain.errors import InvalidRequest
from app.settings import Settings


@pytest.mark.parametrize(
    ("said", "site"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"HOST": "10.0.0.5", "PORT": "80"}, "http://10.0.0.5:80"),
        ({"HOST": "0.0.0.0"}, "http://127.0.0.1:8080"),
        ({"HOST": ""}, "http://127.0.0.1:8080"),
        ({"HOST": "::"}, "http://[::1]:8080"),
        ({"HOST": "fd00::5"}, "http://[fd00::5]:8080"),
        ({"HOST": "0.0.0.0", "SITE_URL": "https://hostler.test/"}, "https://hostler.test"),
    ],
)
def test_the_site_is_an_address_that_can_be_opened(said: dict[str, str], site: str) -> None:
    environ = {f"HOSTLER_{name}": value for name, value in said.items()}

    assert Settings.from_env(environ).site == site


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("PORT", "abc", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("WORKERS", "-1", "a whole number of at least 0"),
        ("FORKS", "0", "a whole number of at least 1"),
        ("LEASE_SECONDS", "soon", "a number greater than 0"),
        ("LEASE_SECONDS", "nan", "a number greater than 0"),
        ("STANDING_ACCESS", "ture", "yes or no"),
        ("SERVICE_MANAGER", "upstart", "auto, systemd or process"),
        ("LANGUAGE", "fr", "en or zh"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_by_name(name: str, text: str, takes: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Settings.from_env({f"HOSTLER_{name}": text})

    assert refused.value.message == f"HOSTLER_{name} is {text!r}; it takes {takes}."


def test_a_setting_left_empty_is_left_out() -> None:
    environ = {f"HOSTLER_{name}": "" for name in ("PORT", "STANDING_ACCESS", "LANGUAGE", "RUN_DIR")}

    assert Settings.from_env(environ) == Settings.from_env({})


@pytest.mark.parametrize(
    "said",
    [
        {"HOSTLER_PORT": "abc"},
        {"HOSTLER_DATABASE_URL": "a-secret-but-no-url"},
        {"HOSTLER_DATABASE_URL": "oracle://a-secret@db/x"},
        {"HOSTLER_REDIS_URL_FILE": "/there/is/no/such/file"},
    ],
)
def test_the_command_line_says_in_a_sentence_which_setting_is_wrong(
    said: dict[str, str], tmp_path: Path
) -> None:
    done = CliRunner(env=said).invoke(main, ["--data-dir", str(tmp_path), "app", "list"])

    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (1, True)
    assert next(iter(said)) in done.output
    assert "a-secret" not in done.output
