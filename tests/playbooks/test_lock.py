"""One run at a time on a host, no stale one, and none that nobody reads."""

import json
import signal
import subprocess
from typing import Any

import pytest

from tests.playbooks.conftest import Package
from tests.playbooks.host import Host, statuses

NEVER_READY = {"kind": "tcp", "port": 1, "within": 50}
SECONDS = 40  # for what takes one; without being told, a run would go on for longer


def token(fence: int, **over: Any) -> dict[str, Any]:
    return {"origin": "here", "fence": fence, "run": fence, "task": 1, "attempt": 1, **over}


@pytest.fixture
def upgrading(host: Host, package: Package) -> subprocess.Popen[str]:
    """An upgrade from 1.0 that has switched already and waits for an agent that is never ready."""
    host.perform("install", package_file=package("1.0"), token=token(1))
    slow = package("2.0", ready=NEVER_READY)
    process = host.begin("upgrade", package_file=slow, token=token(5))
    host.wait_until(lambda: host.release == "2.0" and host.pid and "5" in holder(host))
    return process


def holder(host: Host) -> str:
    return (host.root / "run/hostler/lock").read_text()


def test_an_older_run_is_refused(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive, token=token(5))

    result = host.perform("install", package_file=archive, token=token(4))

    assert result["cause"] == "cancelled"
    assert "stale" in result["reason"]
    assert statuses(result) == {"check": "failed"}


@pytest.mark.parametrize("content", [b"[]", b'"x"', b'{"here": 5}', b'{"here": {}}', b"\xff"])
def test_files_of_the_lock_that_hold_something_else_are_no_dead_end(
    host: Host, package: Package, content: bytes
) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive, token=token(5))
    for name in ("lock", "tokens"):
        (host.root / "run/hostler" / name).write_bytes(content)

    assert host.perform("install", package_file=archive, token=token(6))["cause"] is None
    assert host.perform("install", package_file=archive, token=token(4))["cause"] == "cancelled"


def test_the_same_run_may_come_again(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive, token=token(5))

    assert host.perform("install", package_file=archive, token=token(5))["cause"] is None


def test_another_installations_numbers_do_not_count(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive, token=token(500))

    result = host.perform("install", package_file=archive, token=token(1, origin="elsewhere"))

    assert result["cause"] is None


def test_a_run_by_hand_neither_needs_nor_spoils_the_order(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive, token=token(5))

    assert host.perform("install", package_file=archive)["cause"] is None
    assert host.perform("install", package_file=archive, token=token(4))["cause"] == "cancelled"
    assert host.perform("install", package_file=archive, token=token(6))["cause"] is None


def test_releasing_stops_the_run_and_brings_back_what_was(
    host: Host, upgrading: subprocess.Popen[str]
) -> None:
    released = host.perform("release", token=token(5))

    assert released["released"]
    assert "was stopped here" in released["holder"]
    stopped = host.result_of(upgrading)
    assert stopped["cause"] == "cancelled"
    assert stopped["restored"]
    assert host.release == "1.0"
    assert host.pid
    assert holder(host) == ""


def test_a_released_run_may_not_start_late(host: Host, package: Package) -> None:
    assert host.perform("release", token=token(5))["released"]

    late = host.perform("install", package_file=package("1.0"), token=token(5))

    assert late["cause"] == "cancelled"
    assert "was cancelled" in late["reason"]
    assert not host.base.exists()


def test_releasing_an_old_run_leaves_a_newer_one_alone(
    host: Host, upgrading: subprocess.Popen[str]
) -> None:
    released = host.perform("release", token=token(4))

    assert released["released"]
    assert "Run 5 of task 1" in released["holder"]
    assert upgrading.poll() is None
    upgrading.send_signal(signal.SIGTERM)
    assert host.result_of(upgrading)["restored"]


def test_releasing_kills_a_run_that_does_not_listen(
    host: Host, upgrading: subprocess.Popen[str]
) -> None:
    upgrading.send_signal(signal.SIGSTOP)

    released = host.perform("release", token=token(5))

    assert released["released"]
    assert upgrading.wait(SECONDS) == -signal.SIGKILL


def test_a_newer_run_takes_over_from_a_stale_one(
    host: Host, package: Package, upgrading: subprocess.Popen[str]
) -> None:
    result = host.perform("install", package_file=package("3.0"), token=token(6))

    assert result["cause"] is None, result["reason"]
    assert result["before"]["release"]["version"] == "1.0"
    assert host.release == "3.0"
    assert host.result_of(upgrading)["cause"] == "cancelled"


def test_a_run_nobody_reads_puts_back_what_was_and_ends(
    host: Host, upgrading: subprocess.Popen[str]
) -> None:
    assert upgrading.stdout
    upgrading.stdout.close()

    upgrading.wait(SECONDS)

    assert host.release == "1.0"
    assert host.pid
    assert holder(host) == ""


def test_a_run_told_to_stop_puts_back_what_was(
    host: Host, upgrading: subprocess.Popen[str]
) -> None:
    upgrading.send_signal(signal.SIGTERM)

    result = host.result_of(upgrading)

    assert (result["cause"], result["restored"]) == ("cancelled", True)
    assert "previous release 1.0 runs again" in result["reason"]
    assert host.release == "1.0"


def test_a_run_that_takes_too_long_puts_back_what_was(host: Host, package: Package) -> None:
    host.perform("install", package_file=package("1.0"))
    slow = package("2.0", ready=NEVER_READY)

    result = host.perform("upgrade", package_file=slow, deadline=5)

    assert (result["cause"], result["restored"]) == ("timeout", True)
    assert "5 seconds" in result["reason"]
    assert host.release == "1.0"
    assert host.pid


def test_the_lock_keeps_a_log(host: Host, package: Package) -> None:
    host.perform("install", package_file=package("1.0"), token=token(7))

    deeds = [line.split()[1:3] for line in host.lock_log().splitlines()]

    assert deeds == [["taken", "install"], ["released", "install"]]
    assert "run=7 task=1 attempt=1" in host.lock_log()


def test_two_runs_by_hand_wait_for_each_other(host: Host, package: Package) -> None:
    archive = package("1.0")
    running = [host.begin("install", package_file=archive) for _ in range(3)]

    results = [host.result_of(process) for process in running]

    assert [result["cause"] for result in results] == [None, None, None]
    assert sum(result["changed"] for result in results) == 1
    deeds = [line.split()[1] for line in host.lock_log().splitlines()]
    assert deeds == ["taken", "released"] * 3


def test_what_the_lock_remembers_is_small(host: Host) -> None:
    for number in range(1, 4):
        host.perform("release", token=token(number))

    remembered = json.loads((host.root / "run/hostler/tokens").read_text())
    assert remembered == {
        "here": {"newest": [3, 3, 1, 1], "revoked": [[1, 1, 1, 1], [2, 2, 1, 1], [3, 3, 1, 1]]}
    }
