"""The command line against a running installation."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SECONDS, Installation

pytestmark = pytest.mark.slow

NOBODY = "127.0.0.1:1"  # this machine, and a port where nothing listens


@pytest.fixture(scope="session")
def package(here: Installation, agent_folder: Path) -> str:
    """A registered agent package: its line in the list."""
    built = here.hostler(
        "package", "build", str(agent_folder), "--out", str(here.folder.parent)
    ).stdout
    return here.hostler("package", "add", built.strip()).stdout


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("not the password\n")
    return str(path)


def install(here: Installation, password_file: str, *more: str) -> str:
    """A job that fails, and its number."""
    done = here.hostler("job", "install", NOBODY, "--password-file", password_file, *more, ok=False)
    assert done.returncode == (0 if "--detach" in more else 1), done.stdout + done.stderr
    return done.stdout.split(":")[0].removeprefix("Job ")


def test_an_install_is_watched_to_its_end_and_says_what_to_do(
    here: Installation, package: str, password_file: str
) -> None:
    job_id = install(here, password_file)
    shown = here.hostler("job", "show", job_id).stdout
    assert f"Job {job_id}  Install Agent  FAILED  1 failed" in shown
    row = next(line for line in shown.splitlines() if line.startswith(" 127.0.0.1"))
    assert row.split()[1] == "FAILED"
    assert "refused" in row
    assert "Start sshd there or correct the port, then retry." in shown.replace("\n", " ")


def test_a_job_that_failed_exits_1_when_watched(
    here: Installation, package: str, password_file: str
) -> None:
    job_id = install(here, password_file)
    assert here.hostler("job", "watch", job_id, ok=False).returncode == 1


def test_who_stops_watching_is_told_that_the_job_goes_on(
    here: Installation, package: str, password_file: str, mute: str
) -> None:
    asked = ("job", "install", mute, "--password-file", password_file, "--detach")
    job_id = here.hostler(*asked).stdout.split(":")[0].removeprefix("Job ")
    watching = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "job", "watch", job_id],
        env=here.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout
    assert watching.stdout.readline()  # so it watches
    watching.send_signal(signal.SIGINT)

    _, said = watching.communicate(timeout=SECONDS)

    assert watching.returncode == 130
    assert f"Job {job_id} goes on." in said
    assert f"hostler job revoke {job_id}" in said
    here.hostler("job", "revoke", job_id, ok=False)


def test_a_retry_takes_a_new_login_and_only_the_named_host(
    here: Installation, package: str, password_file: str
) -> None:
    job_id = install(here, password_file)
    again = here.hostler(
        "job", "retry", job_id, "--host", "root@127.0.0.1:2", "--password-file", password_file,
        ok=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "port 2" in again.stdout
    unknown = here.hostler("job", "retry", job_id, "--host", "127.0.0.9", ok=False)
    assert f"Job {job_id} has no host 127.0.0.9; it has: 127.0.0.1." in unknown.stderr


def test_a_host_is_named_by_either_address_however_it_is_spelled(
    here: Installation, package: str, password_file: str
) -> None:
    done = here.hostler("job", "install", "[fd00::9]:1", "--password-file", password_file, ok=False)
    job_id = done.stdout.split(":")[0].removeprefix("Job ")
    again = here.hostler("job", "retry", job_id, "--host", "FD00:0::9", "--detach", ok=False)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("option", ["--password-file", "--key-file"])
def test_a_login_that_is_no_text_is_refused_in_a_sentence(
    here: Installation, tmp_path: Path, option: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    done = here.hostler("job", "install", NOBODY, option, str(tmp_path / "binary"), ok=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{tmp_path / 'binary'} is no text" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_an_admin_json_that_cannot_be_read_is_named(
    here: Installation, tmp_path: Path, text: str
) -> None:
    (tmp_path / "admin.json").write_text(text)
    done = here.hostler("--data-dir", str(tmp_path), "job", "show", "1", ok=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "admin.json") in done.stderr


def test_stopping_what_has_ended_is_refused_in_a_sentence(
    here: Installation, package: str, password_file: str
) -> None:
    job_id = install(here, password_file)
    done = here.hostler("job", "revoke", job_id, ok=False)
    assert done.returncode == 1
    assert "nothing that waits or runs" in done.stderr


def test_a_password_never_stands_on_the_command_line(here: Installation) -> None:
    for command in ("install", "retry"):
        shown = here.hostler("job", command, "--help").stdout
        assert "--password-file" in shown
        assert "--password " not in shown


def test_the_password_is_asked_for_when_no_file_is_named(here: Installation, package: str) -> None:
    done = here.hostler("job", "install", NOBODY, "--detach", input="asked-for\n")
    assert "asked-for" not in done.stdout + done.stderr


@pytest.mark.parametrize("host", ["nowhere", "10.0.0.1:99999", "10.0.0.1:x", "root@", "1.2.3"])
def test_a_host_that_is_none_is_refused_by_name(here: Installation, host: str) -> None:
    done = here.hostler("job", "install", host, "--password-file", "/dev/null", ok=False)
    assert done.returncode == 2
    assert f"{host!r} is not [user@]address[:port]" in done.stderr


def test_packages_come_and_go(here: Installation, package: str, agent_folder: Path) -> None:
    assert "sleeper\t1.0\tx86_64" in package
    assert package.strip() in here.hostler("package", "list").stdout
    built = here.hostler(
        "package", "build", str(agent_folder), "--version", "2.0", "--out", str(here.folder.parent)
    ).stdout
    added = here.hostler("package", "add", built.strip(), "--default").stdout
    assert added.endswith("default\n")
    assert "removed" in here.hostler("package", "remove", added.split("\t")[0]).stdout
    assert "2.0" not in here.hostler("package", "list").stdout
    gone = here.hostler("package", "remove", "999", ok=False)
    assert "There is no package 999" in gone.stderr


def test_a_file_that_is_no_package_is_refused(here: Installation, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"not an archive")
    done = here.hostler("package", "add", str(tmp_path / "x.tar.gz"), ok=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_new_program_can_call_until_it_is_removed(here: Installation, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(here.hostler("app", "add", "watcher", "--role", "viewer").stdout)
    as_watcher = ("job", "--app-code", "watcher", "--app-secret-file", str(secret))
    assert "watcher\tviewer\tbusinesses: all" in here.hostler("app", "list").stdout
    unknown = here.hostler(*as_watcher, "show", "999", ok=False)
    assert "There is no job 999" in unknown.stderr
    secret.write_text(here.hostler("app", "secret", "watcher").stdout)
    assert "There is no job 999" in here.hostler(*as_watcher, "show", "999", ok=False).stderr
    closed = here.hostler("app", "change", "watcher", "--business", "2", "--closed").stdout
    assert closed == "watcher\tviewer\tbusinesses: 2\tclosed\n"
    refused = here.hostler(*as_watcher, "show", "999", ok=False)
    assert "The app code or its secret is wrong." in refused.stderr
    opened = here.hostler("app", "change", "watcher", "--all-businesses", "--open").stdout
    assert opened == "watcher\tviewer\tbusinesses: all\n"
    here.hostler("app", "remove", "watcher")
    refused = here.hostler(*as_watcher, "show", "999", ok=False)
    assert "The app code or its secret is wrong." in refused.stderr


def test_everything_sealed_is_sealed_again_under_a_new_key(here: Installation) -> None:
    before = (here.folder / "keys").read_text()
    done = here.hostler("credential", "rotate").stdout
    assert "sealed with a new key" in done
    assert (here.folder / "keys").read_text().startswith(before.rstrip("\n"))


def test_the_doctor_finds_it_healthy(here: Installation, package: str) -> None:
    shown = here.hostler("doctor").stdout
    assert "to do" not in shown
    assert shown.count("ok ") == 8


def test_the_doctor_says_what_to_do(here: Installation, tmp_path: Path) -> None:
    environment = {**here.environment, "HOSTLER_DATA_DIR": str(tmp_path / "none")}
    elsewhere = Installation(here.folder, here.process, environment)
    done = elsewhere.hostler("doctor", ok=False)
    assert done.returncode == 1
    assert "to do data folder" in done.stdout
    assert "`hostler up` makes it" in done.stdout


def test_without_an_installation_it_says_where_it_looked(
    here: Installation, tmp_path: Path
) -> None:
    done = here.hostler("--data-dir", str(tmp_path), "job", "show", "1", ok=False)
    assert done.returncode == 1
    assert f"{tmp_path}/admin.json" in done.stderr
    assert (
        "There is no installation in"
        in here.hostler("--data-dir", str(tmp_path), "app", "list", ok=False).stderr
    )


def test_a_server_that_is_not_there_is_said_so(here: Installation, tmp_path: Path) -> None:
    admin = json.loads((here.folder / "admin.json").read_text())
    (tmp_path / "admin.json").write_text(json.dumps({**admin, "url": "http://127.0.0.1:1"}))
    done = here.hostler("--data-dir", str(tmp_path), "job", "show", "1", ok=False)
    assert "is `hostler up` running there?" in done.stderr
