"""What is old is forgotten: events, logs and remembered answers. What became of a host is not."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.access.redact import Redactor
from app.automation.events import Output
from app.domain.commands import Idempotency, SubmitJob
from app.domain.errors import Conflict
from app.domain.states import Cause
from app.jobs.claim import Claim
from app.jobs.context import Context
from app.jobs.graph_log import read_log
from app.jobs.once import Answer, do_once
from app.jobs.progress import write_events
from app.jobs.retention import FORGOTTEN, forget_old
from app.jobs.settle import settle_run
from app.jobs.submit import submit_job
from app.models.base import Base, now, reading, transaction
from app.models.work import EventRow, IdempotentAnswer, Job, LogChunk, Part, Run, StepRow
from tests.api.given import OK, play, submit
from tests.jobs.conftest import a_host, a_verdict, broke, claim_next, parts_of, started, worked


@pytest.fixture
def working(ctx: Context) -> Claim:
    """Job 1 works on two hosts: one is done, the other failed, and both were heard."""
    submit(ctx, [a_host(0), a_host(1)])
    claim = claim_next(ctx)
    heard = [started(1), Output(1, "ok: [host_1]\n", now()), worked(1), started(2), broke(2)]
    with transaction(ctx.engine) as session:
        write_events(session, claim, Redactor([]), heard)
    return claim


@pytest.fixture
def finished(ctx: Context, working: Claim) -> Context:
    """Job 1 is over, and its log is compressed."""
    assert settle_run(ctx, working, a_verdict({1}, {2: (Cause.AUTH, "wrong password")}))
    with reading(ctx.engine) as session:
        assert session.scalars(select(Run.log_blob)).one()
    return ctx


def count(ctx: Context, table: type[Base], *where: Any) -> int:
    with reading(ctx.engine) as session:
        return session.scalar(select(func.count()).select_from(table).where(*where)) or 0


def ago(**time: float) -> datetime:
    return now() - timedelta(**time)


def age(ctx: Context, column: Any, at: datetime) -> None:
    with transaction(ctx.engine) as session:
        session.execute(update(column.class_).values({column.key: at}))


def logs(ctx: Context) -> set[str]:
    with reading(ctx.engine) as session:
        return set(session.scalars(select(StepRow.log)))


def test_what_is_younger_stays_to_the_day(finished: Context) -> None:
    days = finished.settings
    age(finished, EventRow.at, ago(days=days.event_retention_days, hours=-1))
    for column in (Run.finished_at, StepRow.finished_at):
        age(finished, column, ago(days=days.log_retention_days, hours=-1))
    before = (count(finished, EventRow), logs(finished), read_log(finished, 1).text)

    forget_old(finished)

    assert (count(finished, EventRow), logs(finished), read_log(finished, 1).text) == before
    assert FORGOTTEN not in logs(finished)


def test_old_events_go_and_nothing_else_of_the_job_does(finished: Context) -> None:
    before = [part.change for part in parts_of(finished, 1)]
    age(finished, EventRow.at, ago(days=finished.settings.event_retention_days, hours=1))
    submit(finished, [a_host(2)])
    play(finished, {"10.9.0.3": OK})
    young = count(finished, EventRow, EventRow.job_id == 2)

    forget_old(finished)

    assert count(finished, EventRow, EventRow.job_id == 1) == 0
    assert count(finished, EventRow, EventRow.job_id == 2) == young > 0
    assert [part.change for part in parts_of(finished, 1)] == before
    with reading(finished.engine) as session:
        assert session.get_one(Job, 1).last_seq, "its numbers are not used again"


def test_old_logs_go_and_the_reasons_stay(finished: Context) -> None:
    assert "fine" in logs(finished)
    before = [part.change for part in parts_of(finished, 1)]
    for column in (Run.finished_at, StepRow.finished_at):
        age(finished, column, ago(days=finished.settings.log_retention_days, hours=1))

    forget_old(finished)

    assert count(finished, Run, Run.log_blob.is_not(None)) == 0
    assert logs(finished) <= {FORGOTTEN, ""}
    assert FORGOTTEN in read_log(finished, 1).text
    assert [part.change for part in parts_of(finished, 1)] == before
    assert "wrong password" in {part.reason for part in parts_of(finished, 1)}


def test_pieces_of_a_log_nobody_archived_go_with_their_run(finished: Context) -> None:
    with transaction(finished.engine) as session:
        session.add(LogChunk(run_id=1, offset=0, host_id=1, content=b"left behind"))
    age(finished, Run.finished_at, ago(days=finished.settings.log_retention_days, hours=1))

    forget_old(finished)

    assert count(finished, LogChunk) == 0
    assert count(finished, Part) == 2


def test_the_log_of_a_run_that_has_not_ended_stays_however_old(
    ctx: Context, working: Claim
) -> None:
    pieces = count(ctx, LogChunk)
    assert pieces
    for column in (Run.created_at, Run.started_at):
        age(ctx, column, ago(days=1000))

    forget_old(ctx)

    assert count(ctx, LogChunk) == pieces
    assert "ok: [host_1]" in read_log(ctx, 1).text


def test_an_answer_is_repeated_for_a_day_and_then_its_key_is_free(ctx: Context) -> None:
    def deed(whole: Context) -> Answer:
        command = SubmitJob(job_type="INSTALL_AGENT", hosts=(a_host(0),), created_by="a")
        return {"job_id": submit_job(whole, command).job_id}

    def ask(fingerprint: str) -> Answer:
        asked = Idempotency(owner="app", key="k1", fingerprint=fingerprint)
        return do_once(ctx, asked, deed)[0]

    def forget_after(**time: float) -> None:
        age(ctx, IdempotentAnswer.created_at, ago(**time))
        forget_old(ctx)

    first = ask("one")
    forget_after(hours=23)
    assert ask("one") == first
    with pytest.raises(Conflict, match="was used for another request"):
        ask("another")

    forget_after(hours=25)

    assert ask("another") != first
