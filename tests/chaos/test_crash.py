"""kill -9 of anything in the middle of a job on twenty hosts: the truth within 30 seconds."""

import contextlib
import os
import signal

import psutil
import pytest

from app.domain.states import JobStatus
from tests.chaos.middle import Middle
from tests.lab.agents import lock_log, on_all, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.installation import Installation, wait_for

HOSTS = 20


def the_horse(middle: Middle) -> int:
    return middle.installation.horse_of(middle.run)


def the_worker(middle: Middle) -> int:
    return psutil.Process(the_horse(middle)).ppid()


def the_playbook(middle: Middle) -> int:
    return middle.installation.playbook_of(middle.run)


@pytest.mark.parametrize("victim", [the_horse, the_worker, the_playbook])
def test_a_killed_process_leaves_the_truth_and_nothing_else(
    lab_hosts: LabHosts, installation: Installation, victim: object
) -> None:
    assert callable(victim)
    middle = Middle(installation, lab_hosts(HOSTS))

    pid = victim(middle)
    middle.accident()
    os.kill(pid, signal.SIGKILL)

    middle.come_to_truth()
    middle.finish_the_rest()


def test_a_horse_killed_while_it_waits_is_missed_by_nobody(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    workers = [psutil.Process(pid) for pid in installation.worker_pids()]
    for worker in workers:
        wait_for(worker.children, "a worker's next horse waits")
        for horse in worker.children():
            horse.kill()
            wait_for(lambda horse=horse: not still_there([horse]), "it is dead")

    hosts = lab_hosts(2)
    for host in hosts:
        job = installation.install([host], installation.agents.steady())
        assert installation.finish(job) is JobStatus.SUCCESS, installation.describe(job)


def test_redis_killed_and_emptied_loses_no_job(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    steady = installation.agents.steady()
    hosts = lab_hosts(HOSTS)
    before, after, *rest = hosts
    others = len(installation.worker_pids()) - 1
    middle = Middle(installation, rest[others:])
    busy = [Middle(installation, [host]) for host in rest[:others]]
    waiting = installation.install([before], steady)  # every worker has something to do

    installation.ctx.queue.connection.flushall()
    os.kill(installation.redis_pid(), signal.SIGKILL)
    unsent = installation.install([after], steady)  # nobody can be told of it now
    wait_for(installation.redis_answers, "Redis is back", 30)
    assert installation.job(waiting).status is JobStatus.PENDING
    assert installation.job(middle.job).status is JobStatus.RUNNING
    open_gates(rest)

    for each in (middle, *busy):
        each.succeed()
    for job in (waiting, unsent):
        assert installation.finish(job) is JobStatus.SUCCESS, installation.describe(job)
    jobs = [*(each.job for each in (middle, *busy)), waiting, unsent]
    assert [run.outcome for job in jobs for run in installation.runs(job)] == (
        ["successful"] * len(jobs)
    )
    for notes in on_all(lock_log, hosts):
        assert [note.deed for note in notes] == ["taken", "released"], "a host was visited twice"


def test_a_killed_supervisor_takes_everything_along_and_the_next_start_tells_the_truth(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    middle = Middle(installation, lab_hosts(HOSTS))
    assert installation.process
    programs = psutil.Process(installation.process.pid).children(recursive=True)
    assert len(programs) > HOSTS

    installation.kill()
    wait_for(
        lambda: not still_there(programs),
        lambda: f"everything it started is gone: {still_there(programs)}",
        15,
    )
    installation.start()
    middle.accident()  # the promise counts from when a keeper and the database are up

    middle.come_to_truth()
    middle.finish_the_rest()


def still_there(programs: list[psutil.Process]) -> list[psutil.Process]:
    """Those that live."""
    found = []
    for program in programs:
        with contextlib.suppress(psutil.NoSuchProcess):
            if program.status() != psutil.STATUS_ZOMBIE:
                found.append(program)
    return found
