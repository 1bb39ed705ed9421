"""Forget what is old: events and logs go, parts and their reasons stay."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Delete, Select, Update, delete, select, update

from app.jobs.context import Context
from app.models.access import Audit
from app.models.base import chunks, now, reading, transaction
from app.models.work import EventRow, IdempotentAnswer, LogChunk, Run, StepRow

KEEP_ANSWERS = timedelta(days=1)  # how long an Idempotency-Key is remembered
FORGOTTEN = "This log is past its time and was deleted."
AT_ONCE = 200  # runs or parts in one transaction; jobs, with many events each, one by one


def forget_old(ctx: Context) -> None:
    """Delete events, logs and remembered answers past their time."""
    _forget_events(ctx)
    _forget_logs(ctx)
    _forget_audit(ctx)
    old = IdempotentAnswer.created_at < now() - KEEP_ANSWERS
    _forget(
        ctx,
        select(IdempotentAnswer.key).where(old),
        lambda keys: delete(IdempotentAnswer).where(old, IdempotentAnswer.key.in_(keys)),
    )


def _forget_events(ctx: Context) -> None:
    old = EventRow.at < now() - timedelta(days=ctx.settings.event_retention_days)
    _forget(
        ctx,
        select(EventRow.job_id).where(old),
        lambda jobs: delete(EventRow).where(old, EventRow.job_id.in_(jobs)),
        at_once=1,
    )


def _forget_audit(ctx: Context) -> None:
    old = Audit.at < now() - timedelta(days=ctx.settings.audit_retention_days)
    _forget(
        ctx,
        select(Audit.id).where(old),
        lambda rows: delete(Audit).where(Audit.id.in_(rows)),
    )


def _forget_logs(ctx: Context) -> None:
    before = now() - timedelta(days=ctx.settings.log_retention_days)
    ended = select(Run.id).where(Run.finished_at < before)
    _forget(
        ctx,
        select(LogChunk.run_id).where(LogChunk.run_id.in_(ended)),
        lambda runs: delete(LogChunk).where(LogChunk.run_id.in_(runs)),
    )
    _forget(
        ctx,
        ended.where(Run.log_blob.is_not(None)),
        lambda runs: update(Run).where(Run.id.in_(runs)).values(log_blob=None),
    )
    said = (StepRow.finished_at < before) & StepRow.log.not_in(["", FORGOTTEN])
    _forget(
        ctx,
        select(StepRow.part_id).where(said),
        lambda parts: update(StepRow).where(said, StepRow.part_id.in_(parts)).values(log=FORGOTTEN),
    )


def _forget(
    ctx: Context,
    owners: Select[Any],
    statement: Callable[[list[Any]], Delete | Update],
    at_once: int = AT_ONCE,
) -> None:
    """Some at a time, and only where there is something: whoever works waits while we write."""
    with reading(ctx.engine) as session:
        found = session.scalars(owners.distinct()).all()
    for some in chunks(found, at_once):
        with transaction(ctx.engine) as session:
            session.execute(statement(some))
