"""A worker that is told to stop while it buries a run buries it all the same."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rq.exceptions import StopRequested

from app import worker
from app.domain.commands import Submitted
from app.domain.states import Cause, RunStatus, Status
from app.jobs.claim import worker_name
from app.jobs.context import Context
from tests.jobs.conftest import claim_next, parts_of, runs_of

LEFT_BEHIND = """
import signal
asked = iter(range(2))
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True) if next(asked) == 0 else exit())
print("here", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def told_to_stop() -> Iterator[Callable[[], None]]:
    """What RQ's worker does on SIGTERM, by a signal that is free in the tests."""

    def stop(*_: Any) -> None:
        raise StopRequested

    before = signal.signal(signal.SIGUSR1, stop)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_a_stop_in_the_middle_loses_neither_the_run_nor_the_stop(
    ctx: Context,
    install: Callable[..., Submitted],
    told_to_stop: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = worker_name()
    monkeypatch.setattr(worker, "_context", ctx)
    monkeypatch.setattr(worker, "_owner", owner)
    job_id = install(1).job_id
    claim = claim_next(ctx, owner)
    folder = ctx.settings.run_folder / f"r{claim.run_id}-1-x"
    left = subprocess.Popen(
        [sys.executable, "-c", LEFT_BEHIND],
        env={"HOSTLER_RUN": str(claim.run_id), "HOSTLER_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert left.stdout
    assert left.stdout.readline() == "here\n"
    said = left.stdout
    messenger = threading.Thread(target=lambda: said.readline() and told_to_stop())
    messenger.start()

    with pytest.raises(StopRequested):
        worker._bury_surely(claim.run_id)

    messenger.join()
    left.stdout.close()
    with pytest.raises(ProcessLookupError):
        os.kill(left.pid, 0)
    left.wait()
    assert [(run.status, run.outcome) for run in runs_of(ctx, job_id)] == [
        (RunStatus.ENDED, "lost")
    ]
    assert [(part.status, part.cause) for part in parts_of(ctx, job_id)] == [
        (Status.FAILED, Cause.LOST)
    ]
