"""Rollbacks: what they take back, and that one that failed half-way waits for a person alone."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.access.redact import Redactor
from app.automation.events import HostResult
from app.domain.commands import NextStage, OnBusy, RevokeJob, SubmitJob
from app.domain.errors import NothingToStop, RollbackProhibited
from app.domain.states import Cause, JobStatus, Undo
from app.jobs.cancel import abort_task, revoke_job
from app.jobs.context import Context
from app.jobs.progress import write_events
from app.jobs.retry import retry_task
from app.jobs.rollback import roll_back_task
from app.jobs.settle import settle_run
from app.jobs.submit import submit_job
from app.keeper import wipe_logins
from app.models.access import Credential
from app.models.base import now, reading, transaction
from app.models.work import Job, Part
from tests.api.given import OK, play, submit
from tests.jobs.conftest import a_host, a_verdict, claim_next, started


@pytest.fixture
def stuck(ctx: Context) -> Context:
    """The second stage could not be taken back, so the first one still is to be."""
    then = (NextStage(job_type="RELOAD_AGENT"),)
    command = SubmitJob(job_type="INSTALL_AGENT", hosts=(a_host(0),), created_by="a", then=then)
    submit_job(ctx, command)
    play(ctx, {"10.9.0.1": OK})
    _break_off(ctx, Cause.TIMEOUT)
    roll_back_task(ctx, 1, "ada")
    _break_off(ctx, Cause.AUTH)
    assert _undos(ctx) == [Undo.DUE, Undo.FAILED]
    return ctx


def test_its_hosts_are_free_for_other_jobs(stuck: Context) -> None:
    again = SubmitJob(
        job_type="RESTART_AGENT", hosts=(a_host(0),), created_by="a", on_busy=OnBusy.REFUSE
    )

    assert submit_job(stuck, again).job_id == 2


def test_it_keeps_no_login_beyond_its_time(stuck: Context) -> None:
    with transaction(stuck.engine) as session:
        session.execute(update(Credential).values(expires_at=now() - timedelta(hours=1)))

    assert wipe_logins(stuck) == 1


def test_there_is_nothing_of_it_to_stop(stuck: Context) -> None:
    with pytest.raises(NothingToStop):
        revoke_job(stuck, RevokeJob(job_id=1))

    assert _undos(stuck) == [Undo.DUE, Undo.FAILED]


def test_once_aborted_it_waits_for_nobody(stuck: Context) -> None:
    abort_task(stuck, 1, "ada")

    with reading(stuck.engine) as session:
        assert session.get_one(Job, 1).status is JobStatus.FAILED
    with pytest.raises(NothingToStop):
        revoke_job(stuck, RevokeJob(job_id=1))


@pytest.mark.parametrize("again", [retry_task, roll_back_task])
def test_tried_again_it_goes_on_to_the_first_stage(
    stuck: Context, again: Callable[[Context, int, str], None]
) -> None:
    again(stuck, 1, "ada")
    _take_back(stuck)
    _take_back(stuck)

    assert _undos(stuck) == [None, None]


@pytest.mark.parametrize("cause", [Cause.LOST, Cause.TIMEOUT])
def test_what_an_attempt_may_have_left_is_taken_back_whatever_came_after_it(
    ctx: Context, cause: Cause
) -> None:
    submit_job(ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=(a_host(0),), created_by="a"))
    _break_off(ctx, cause)
    retry_task(ctx, 1, "ada")
    revoke_job(ctx, RevokeJob(job_id=1))

    roll_back_task(ctx, 1, "ada")

    assert _undos(ctx) == [Undo.DUE]


def test_an_uninstall_that_may_have_begun_cannot_be_taken_back_after_a_retry(ctx: Context) -> None:
    submit(ctx, [a_host(0)])
    play(ctx, {"10.9.0.1": OK})
    submit(ctx, [a_host(0)], "UNINSTALL_AGENT")
    _break_off(ctx, Cause.LOST)
    retry_task(ctx, 2, "ada")
    revoke_job(ctx, RevokeJob(job_id=2))

    with pytest.raises(RollbackProhibited):
        roll_back_task(ctx, 2, "ada")


def test_what_an_attempt_left_is_not_what_was_there_before(ctx: Context) -> None:
    submit(ctx, [a_host(0)])
    _break_off(ctx, Cause.LOST)
    retry_task(ctx, 1, "ada")

    _find(ctx, {"version": "2.0.0", "sha256": "", "path": ""})

    with reading(ctx.engine) as session:
        assert session.scalars(select(Part.before)).all() == [{"release": None}]


def test_what_was_there_before_is_what_the_first_attempt_found(ctx: Context) -> None:
    release = {"version": "1.0.0", "sha256": "", "path": ""}
    submit(ctx, [a_host(0)])

    _find(ctx, release)

    with reading(ctx.engine) as session:
        assert session.scalars(select(Part.before)).all() == [{"release": release}]


def _find(ctx: Context, release: dict[str, str]) -> None:
    """The next run begins on its host, and finds this release there."""
    claim = claim_next(ctx)
    result = {"phases": [], "before": {"release": release}}
    found = HostResult(1, "Package", "ok", False, None, "", result, now())
    with transaction(ctx.engine) as session:
        write_events(session, claim, Redactor([]), [started(1), found])


def _break_off(ctx: Context, cause: Cause) -> None:
    """The next run begins on its host, and fails there."""
    claim = claim_next(ctx)
    with transaction(ctx.engine) as session:
        write_events(session, claim, Redactor([]), [started(1)])
    assert settle_run(ctx, claim, a_verdict(failed={1: (cause, "it broke off")}))


def _take_back(ctx: Context) -> None:
    assert settle_run(ctx, claim_next(ctx), a_verdict(proven_ok=frozenset({1})))


def _undos(ctx: Context) -> list[Undo | None]:
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Part.undo).order_by(Part.stage)))
