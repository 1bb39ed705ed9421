"""Where we say that we are."""

import pytest

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
