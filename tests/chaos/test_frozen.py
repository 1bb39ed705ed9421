"""A worker that stands still and wakes up later: its run is lost, and it can change nothing."""

import os
import signal

import psutil

from app.domain.states import Cause, JobStatus
from tests.chaos.middle import Middle
from tests.lab.agents import lock_log, look_at_agents, on_all, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.installation import Installation, wait_for


def test_a_worker_that_wakes_up_too_late_changes_nothing(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    middle = Middle(installation, lab_hosts(6))
    worker = psutil.Process(installation.horse_of(middle.run)).parent()
    assert worker
    frozen = [worker, *worker.children(recursive=True)]

    middle.accident()
    for process in frozen:
        process.suspend()
    try:
        installation.finish(middle.job, middle.left())
        middle.check_told(Cause.LOST)
        open_gates(middle.hosts)
        installation.retry(middle.job)
        assert installation.finish(middle.job) is JobStatus.SUCCESS
        agents = look_at_agents(middle.hosts)
        assert {seen.state for seen in agents.values()} == {"active"}
        notes = on_all(lock_log, middle.hosts)
        events = installation.job(middle.job).last_seq
    finally:
        for process in frozen:
            os.kill(process.pid, signal.SIGCONT)

    wait_for(
        lambda: not installation.leftovers([middle.run], middle.hosts),
        lambda: f"the stale run stops itself: {installation.leftovers([middle.run], middle.hosts)}",
        30,
    )
    assert worker.is_running()
    assert look_at_agents(middle.hosts) == agents, "the stale run touched a host"
    assert on_all(lock_log, middle.hosts) == notes
    assert installation.job(middle.job).status is JobStatus.SUCCESS
    assert installation.job(middle.job).last_seq == events, "the stale run wrote something"
    for host_notes in notes:
        turns = [(note.deed, note.run == middle.run) for note in host_notes]
        assert turns[0] == ("taken", True)
        assert turns[-2:] == [("taken", False), ("released", False)]
