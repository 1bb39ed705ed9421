"""A worker that is told to stop while it buries a dead run: it buries it whole, then it stops."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psutil
import pytest
from sqlalchemy import select

from app.automation.processes import find_processes
from app.domain.commands import AuthType, LoginSpec
from app.domain.states import Cause, JobStatus, Status
from app.jobs.context import Context
from app.models.base import reading
from app.models.fleet import HostLock
from app.models.work import Job
from tests.api.given import submit
from tests.jobs.conftest import a_host, parts_of, runs_of

pytestmark = pytest.mark.slow

SECONDS = 60  # for what takes one, on a machine that is busy with other tests
# What it says it says by a system call: a second signal may come while the first is answered.
STUBBORN = """\
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked to end\\n"))
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""
T = TypeVar("T")


def wait_for(look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    return found


@pytest.fixture
def mute() -> Iterator[int]:
    """A port where somebody accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def worker(ctx: Context) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of this installation, in a process of its own."""
    settings = {
        "HOSTLER_DATA_DIR": str(ctx.settings.data_dir),
        "HOSTLER_REDIS_URL": ctx.settings.redis_url,
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "worker"], env=os.environ | settings
    )
    yield worker
    worker.kill()
    worker.wait()


@pytest.fixture
def stubborn(ctx: Context) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts a process of a run that does not end when it is asked to, and says so."""
    started = []

    def start(run_id: int) -> subprocess.Popen[str]:
        folder = ctx.settings.run_folder / f"r{run_id}-1-x"
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", STUBBORN],
            env={"HOSTLER_RUN": str(run_id), "HOSTLER_FOLDER": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_worker_told_to_stop_while_it_buries_a_run_leaves_nothing_of_it(
    ctx: Context,
    mute: int,
    worker: subprocess.Popen[bytes],
    stubborn: Callable[[int], subprocess.Popen[str]],
) -> None:
    login = LoginSpec(account="root", port=mute, auth_type=AuthType.PASSWORD, password="not known")
    job_id = submit(ctx, [a_host(0, login, inner_ip="127.0.0.1")])
    (run,) = runs_of(ctx, job_id)
    root = ctx.settings.run_folder
    wait_for(lambda: any(process.is_ssh for process in find_processes(run.id, root)))
    left = stubborn(run.id)
    horse = next(child for child in psutil.Process(worker.pid).children() if child.children())

    horse.kill()
    assert left.stdout
    assert left.stdout.readline() == "asked to end\n"  # so it is being buried
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(SECONDS) == 0
    assert left.wait(SECONDS) == -signal.SIGKILL
    assert find_processes(run.id, root) == []
    assert not any(root.glob(f"r{run.id}-*"))
    (run,), (part,) = runs_of(ctx, job_id), parts_of(ctx, job_id)
    assert (run.outcome, run.message) == ("lost", "its work-horse died")
    assert (part.status, part.cause) == (Status.FAILED, Cause.LOST)
    with reading(ctx.engine) as session:
        assert session.get_one(Job, job_id).status is JobStatus.FAILED
        assert session.scalars(select(HostLock)).all() == []
