"""`hostler up` starts everything, keeps it alive, and leaves nothing behind."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from redis import Redis

from tests.cli.conftest import SECONDS, Installation, Start, start_in

pytestmark = pytest.mark.slow


def admin_of(installation: Installation) -> dict[str, str]:
    admin: dict[str, str] = json.loads((installation.folder / "admin.json").read_text())
    return admin


def url_of(installation: Installation) -> str:
    found = re.search(r"ready at (\S+)", installation.log)
    assert found
    return found[1]


def test_a_first_start_leaves_an_administrator_and_what_it_needs(here: Installation) -> None:
    assert (here.folder / "admin.json").stat().st_mode & 0o777 == 0o600
    admin = admin_of(here)
    assert admin["url"] == url_of(here)
    assert sorted(admin) == [
        "access_key", "app_code", "app_secret", "password", "secret_key", "url", "username",
    ]  # fmt: skip
    assert requests.get(f"{admin['url']}/healthz", timeout=SECONDS).status_code == 200
    login = {"bk_app_code": admin["app_code"], "bk_app_secret": admin["app_secret"]}
    answer = requests.post(f"{admin['url']}/api/cloud/", json=login, timeout=SECONDS).json()
    assert [zone["bk_cloud_id"] for zone in answer["data"]] == [0]
    assert requests.get(f"{admin['url']}/", timeout=SECONDS).url.startswith(f"{admin['url']}/login")


def test_nothing_it_writes_can_be_read_by_others(here: Installation) -> None:
    written = [here.folder, *here.folder.rglob("*")]
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_it_stops_on_a_signal_and_leaves_no_process(start: Start) -> None:
    installation = start()
    installation.wait_for("hostler is ready")
    processes = installation.processes()
    assert len(processes) >= 5  # Redis, two gunicorns with a worker each, a worker
    assert installation.stop(signal.SIGINT) == 0
    assert not any(process.is_running() for process in processes)
    assert installation.log.endswith("stopped\n")
    assert not (installation.folder / "redis.sock").exists()


def test_nothing_survives_when_it_is_killed(start: Start) -> None:
    installation = start()
    installation.wait_for("hostler is ready")
    processes = installation.processes()
    installation.process.kill()
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    assert alive == []


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose parts get killed."""
    installation = start_in(tmp_path_factory.mktemp("mortal") / "data")
    installation.wait_for("hostler is ready")
    yield installation
    assert installation.stop() == 0


@pytest.mark.parametrize(
    ("name", "part"),
    [("API", "app.wsgi:api()"), ("Redis", "valkey-server"), ("worker 1", "app.cli worker")],
)
def test_a_part_that_dies_is_started_again(mortal: Installation, name: str, part: str) -> None:
    mortal.process_named(part).kill()
    mortal.wait_for(f"{name} was killed by SIGKILL; starting it again in 0.5 s")
    assert mortal.process_named(part).is_running()
    deadline = time.monotonic() + SECONDS
    # the open socket holds the caller until the new API answers
    while not requests.get(f"{url_of(mortal)}/healthz", timeout=SECONDS).ok:
        assert time.monotonic() < deadline, mortal.log


def test_a_second_start_keeps_the_administrator_and_tells_the_new_address(start: Start) -> None:
    first = start()
    first.wait_for("hostler is ready")
    before = admin_of(first)
    first.stop()
    second = start()
    second.wait_for("hostler is ready")
    after = admin_of(second)
    assert after == {**before, "url": url_of(second)}


def test_two_cannot_share_a_folder(here: Installation, start: Start) -> None:
    second = start("--data-dir", str(here.folder))
    assert second.process.wait(SECONDS) == 1
    assert "Another hostler runs in" in second.log


def test_a_port_in_use_is_named_with_what_to_do(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = start("--port", str(port))
        assert refused.process.wait(SECONDS) == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use" in refused.log
    assert "--port (0 takes a free one)" in refused.log


def test_a_folder_that_cannot_be_a_folder_is_refused(tmp_path: Path, start: Start) -> None:
    (tmp_path / "file").touch()
    refused = start("--data-dir", str(tmp_path / "file" / "data"))
    assert refused.process.wait(SECONDS) == 1
    assert "Choose another with --data-dir" in refused.log


def test_redis_is_reached_by_its_socket_alone_and_forgets_nothing(here: Installation) -> None:
    assert here.process_named("valkey-server").net_connections(kind="inet") == []
    redis = Redis.from_url(f"unix://{here.folder}/redis.sock")
    wanted = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    shown = {name: redis.config_get(name)[name] for name in wanted}
    redis.close()
    assert shown == wanted


def test_run_up_is_the_same_command() -> None:
    run = Path(__file__).parents[2] / "run"
    done = subprocess.run([run, "up", "--help"], capture_output=True, text=True, timeout=SECONDS)
    assert "Start API, console, workers, Redis and database" in done.stdout


def test_postgresql_takes_the_place_of_sqlite(
    start: Start, postgres: str, agent_folder: Path
) -> None:
    installation = start(HOSTLER_DATABASE_URL=postgres)
    installation.wait_for("hostler is ready")
    add_package(installation, agent_folder)
    done = installation.hostler(
        "job", "install", "127.0.0.1:1", "--password-file", "-", input="x", ok=False
    )
    assert "refused" in done.stdout, done.stderr + installation.log
    assert not (installation.folder / "hostler.sqlite3").exists()


def add_package(installation: Installation, agent_folder: Path) -> None:
    folder = str(installation.folder.parent)
    built = installation.hostler("package", "build", str(agent_folder), "--out", folder).stdout
    installation.hostler("package", "add", built.strip())


def begin_a_run(installation: Installation, agent_folder: Path, host: str) -> str:
    """A job whose run has begun, and will not end by itself for a while."""
    installation.wait_for("hostler is ready")
    add_package(installation, agent_folder)
    started = installation.hostler(
        "job", "install", host, "--password-file", "-", "--detach", input="x"
    )
    deadline = time.monotonic() + SECONDS
    while not any("ssh" in process.name() for process in installation.processes()):
        assert time.monotonic() < deadline, installation.log
        installation.process_ended_within(0.1)
    return started.stdout.split(":")[0].removeprefix("Job ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_in_the_middle_of_a_run_it_leaves_nothing_and_tells_the_truth_later(
    start: Start, agent_folder: Path, mute: str, number: signal.Signals
) -> None:
    first = start()
    job_id = begin_a_run(first, agent_folder, mute)
    processes = first.processes()
    first.stop(number)
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    assert alive == []

    second = start(HOSTLER_LEASE_SECONDS="3")
    second.wait_for("hostler is ready")
    done = second.hostler("job", "watch", job_id, ok=False)
    assert done.returncode == 1
    assert "lost" in done.stdout
