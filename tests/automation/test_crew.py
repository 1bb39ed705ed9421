"""Hosts that share a worker of Ansible fare as each would alone."""

import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.automation.crew import TOGETHER
from app.automation.events import Event, HostStarted
from app.automation.processes import parent, processes_in
from app.automation.runner import PlaybookRun
from app.domain.states import Cause
from tests.automation.loopback import Loopback
from tests.automation.record import PLAYBOOKS, play
from tests.automation.test_runner import (
    Background,
    Watcher,
    a_run,
    clients,
    in_full_swing,
    local,
    started,
)
from tests.ports import keep_port, port_of

CROWD = range(1, TOGETHER + 4)


def crews(root: Path) -> set[int]:
    """The processes that have started the ssh of a host."""
    return {pid for client in clients(root) if (pid := parent(client))}


def test_each_host_is_told_its_own(root: Path, host: Loopback) -> None:
    machines = [
        host.machine(n, values={"cause": "checksum_mismatch", "reason": f"The tale of {n}."})
        for n in CROWD
    ]

    verdict = a_run(root, "refuse", *machines).run(lambda _event: None)

    assert {n: reason for n, (_, reason) in verdict.failed.items()} == {
        n: f"The tale of {n}." for n in CROWD
    }


def test_some_hosts_have_one_process(root: Path, host: Loopback) -> None:
    watcher = Watcher(started("Take a while"))
    run = a_run(root, "sleep", *(host.machine(n) for n in range(1, 4)))
    background = Background(run, watcher)
    watcher.wait()
    assert in_full_swing(root, 3)

    together = crews(root)
    run.stop()
    background.join()

    assert len(together) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("well", "seconds"), [((), 5), ((2, 3), 15)])
def test_a_host_that_takes_too_long_is_given_up_alone(
    root: Path, host: Loopback, well: tuple[int, ...], seconds: int
) -> None:
    slow = host.machine(1, values={"seconds": 50})
    quick = [host.machine(n, values={"seconds": 0}) for n in well]
    hurried = replace(play("sleep", slow, *quick), host_timeout=timedelta(seconds=seconds))

    verdict = PlaybookRun(hurried, root, playbooks=PLAYBOOKS).run(lambda _event: None)

    assert verdict.proven_ok == set(well)
    assert verdict.failed.keys() == {1}
    cause, reason = verdict.failed[1]
    assert cause is Cause.TIMEOUT
    assert reason.startswith(f"The host was not done within {seconds} s")


@pytest.mark.slow
def test_a_command_here_that_takes_too_long_is_ended_with_all_it_started(root: Path) -> None:
    hurried = replace(play("hang_local", local(1), local(2)), host_timeout=timedelta(seconds=3))

    verdict = PlaybookRun(hurried, root, playbooks=PLAYBOOKS).run(lambda _event: None)

    assert verdict.outcome == "failed"  # it ended by itself, not when the time of the run was over
    assert {cause for cause, _ in verdict.failed.values()} == {Cause.TIMEOUT}


@pytest.mark.slow
def test_who_tries_again_and_again_is_given_up_too(root: Path, host: Loopback) -> None:
    with keep_port() as nobody:
        machines = [host.machine(n, port=port_of(nobody)) for n in (1, 2)]
        hurried = replace(play("wait", *machines), host_timeout=timedelta(seconds=4))
        verdict = PlaybookRun(hurried, root, playbooks=PLAYBOOKS).run(lambda _event: None)

    assert verdict.outcome == "failed"
    assert {cause for cause, _ in verdict.failed.values()} == {Cause.TIMEOUT}


@pytest.mark.slow
def test_nobody_is_late_who_only_waited_for_another(root: Path) -> None:
    patient = play("lookup_local", local(1), local(2), local(3), slow="host_3")
    hurried = replace(patient, host_timeout=timedelta(seconds=5))

    verdict = PlaybookRun(hurried, root, playbooks=PLAYBOOKS).run(lambda _event: None)

    assert verdict.proven_ok == {1, 2, 3}


def test_many_tasks_take_no_more_descriptors_than_one(root: Path) -> None:
    open_at: dict[str, int] = {}

    def count(event: Event) -> None:
        if isinstance(event, HostStarted) and event.task not in open_at:
            [folder] = root.iterdir()
            [playbook] = [p.pid for p in processes_in(folder) if parent(p.pid) == os.getpid()]
            open_at[event.task] = len(os.listdir(f"/proc/{playbook}/fd"))

    a_run(root, "mixed", *map(local, CROWD), below=5).run(count)

    assert len(open_at) > 3
    after_the_first = list(open_at.values())[1:]
    assert max(after_the_first) - min(after_the_first) < len(CROWD)


def test_a_crew_that_is_killed_proves_nothing(root: Path, host: Loopback) -> None:
    watcher = Watcher(started("Take a while"))
    background = Background(a_run(root, "sleep", host.machine(1), host.machine(2)), watcher)
    watcher.wait()
    assert in_full_swing(root, 2)

    [crew] = crews(root)
    os.kill(crew, signal.SIGKILL)
    background.join()

    assert background.verdict.proven_ok == set()
    assert not [result for result in watcher.results if result.task == "Take a while"]


def test_a_crew_one_of_which_leaves_ends_with_all_it_started(root: Path, host: Loopback) -> None:
    machines = [host.machine(n) for n in (1, 2, 3)]

    verdict = a_run(root, "leave", *machines, leaver="host_3").run(lambda _event: None)

    assert verdict.proven_ok == set()
    assert verdict.outcome != "timeout"  # nobody waited for what the others had begun


def test_trying_again_is_everyones_own_affair(root: Path, host: Loopback, tmp_path: Path) -> None:
    machines = [
        host.machine(n, values={"mark": str(tmp_path / str(n)), "reason": f"The tale of {n}."})
        for n in (1, 2, 3)
    ]

    verdict = a_run(root, "patience", *machines).run(lambda _event: None)

    assert {n: reason for n, (_, reason) in verdict.failed.items()} == {
        n: f"The tale of {n}." for n in (1, 2, 3)
    }
    assert {(tmp_path / str(n)).read_text() for n in (1, 2, 3)} == {"touched\ntouched\n"}
