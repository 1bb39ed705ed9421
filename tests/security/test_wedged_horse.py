"""A work-horse that hangs costs its own run, not the worker that waits for it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from app.automation.processes import find_processes
from app.domain.commands import AuthType, LoginSpec
from app.domain.states import Cause, JobStatus
from app.jobs.context import Context
from app.models.base import reading
from app.models.work import Job
from tests.api.given import submit
from tests.jobs.conftest import (  # noqa: F401 - its fixtures
    a_host,
    ctx,
    parts_of,
    prepared,
    redis_socket,
    runs_of,
)
from tests.jobs.test_burial import mute, wait_for  # noqa: F401 - its fixture

QUICK = {
    "HOSTLER_LEASE_SECONDS": "3",
    "HOSTLER_RENEW_SECONDS": "0.5",
    "HOSTLER_KEEPER_SECONDS": "1",
}


@pytest.fixture
def worker(ctx: Context) -> Iterator[subprocess.Popen[bytes]]:  # noqa: F811
    """The only worker of this installation, beside a keeper."""
    settings = {
        "HOSTLER_DATA_DIR": str(ctx.settings.data_dir),
        "HOSTLER_REDIS_URL": ctx.settings.redis_url,
    }
    environment = os.environ | settings | QUICK
    worker, keeper = (
        subprocess.Popen([sys.executable, "-m", "app.cli", name], env=environment)
        for name in ("worker", "keeper")
    )
    yield worker
    for process in (worker, keeper):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_horse_that_hangs_is_ended_and_its_worker_goes_on(
    ctx: Context,  # noqa: F811
    mute: int,  # noqa: F811
    worker: subprocess.Popen[bytes],
) -> None:
    login = LoginSpec(account="root", port=mute, auth_type=AuthType.PASSWORD, password="not known")
    first = submit(ctx, [a_host(0, login, inner_ip="127.0.0.1")])
    (run,) = runs_of(ctx, first)
    root = ctx.settings.run_folder
    wait_for(lambda: any(process.is_ssh for process in find_processes(run.id, root)))
    horse = next(child for child in psutil.Process(worker.pid).children() if child.children())

    os.kill(horse.pid, signal.SIGSTOP)  # as one that matches a pattern for ever: nothing of it runs

    wait_for(lambda: is_over(ctx, first))
    (part,) = parts_of(ctx, first)
    assert part.cause is Cause.LOST
    refused = LoginSpec(
        account="root", port=free_port(), auth_type=AuthType.PASSWORD, password="not known"
    )
    second = submit(ctx, [a_host(1, refused, inner_ip="127.0.0.1")])
    wait_for(lambda: is_over(ctx, second))
    (part,) = parts_of(ctx, second)
    assert part.cause is Cause.REFUSED, "the same worker did the next run"
    assert not psutil.pid_exists(horse.pid)
    assert find_processes(run.id, root) == []


def is_over(ctx: Context, job_id: int) -> bool:  # noqa: F811
    with reading(ctx.engine) as session:
        return session.get_one(Job, job_id).status is JobStatus.FAILED


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
