"""What is opened when: stage after stage on each host, or all of them behind a barrier."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from app.domain.catalogue import CATALOGUE
from app.domain.commands import NextStage, SubmitJob
from app.jobs.context import Context
from app.jobs.submit import submit_job
from app.models.base import reading
from app.models.work import Run, Subtask
from tests.api.given import OK, play
from tests.jobs.conftest import a_host


@pytest.fixture
def restart_is_a_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, barrier in (("INSTALL_AGENT", False), ("RESTART_AGENT", True)):
        changed = replace(CATALOGUE[name], slice_size=1, barrier=barrier)
        monkeypatch.setitem(CATALOGUE, name, changed)


@pytest.mark.usefixtures("restart_is_a_barrier")
def test_behind_a_barrier_nothing_begins_before_all_has_ended(ctx: Context) -> None:
    _install_then_restart(ctx, 3)

    play(ctx, {"10.9.0.1": OK})
    play(ctx, {"10.9.0.2": ["auth", "wrong password"]})
    assert _opened(ctx) == {"INSTALL_AGENT": 3}

    play(ctx, {"10.9.0.3": OK})
    assert _opened(ctx) == {"INSTALL_AGENT": 3, "RESTART_AGENT": 2}


def test_without_one_each_slice_goes_on_by_itself(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        CATALOGUE, "INSTALL_AGENT", replace(CATALOGUE["INSTALL_AGENT"], slice_size=1)
    )
    _install_then_restart(ctx, 2)

    play(ctx, {"10.9.0.1": OK})

    assert _opened(ctx) == {"INSTALL_AGENT": 2, "RESTART_AGENT": 1}


def _install_then_restart(ctx: Context, hosts: int) -> None:
    then = (NextStage(job_type="RESTART_AGENT"),)
    rows = tuple(a_host(n) for n in range(hosts))
    command = SubmitJob(job_type="INSTALL_AGENT", hosts=rows, created_by="alice", then=then)
    submit_job(ctx, command)


def _opened(ctx: Context) -> dict[str, int]:
    """Runs of each job type so far."""
    with reading(ctx.engine) as session:
        types = session.scalars(
            select(Subtask.job_type).join(Run, Run.subtask_id == Subtask.id)
        ).all()
    return {job_type: types.count(job_type) for job_type in types}
