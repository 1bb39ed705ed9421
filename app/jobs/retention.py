"""Forget what is old: events and logs go, parts and their reasons stay."""

from datetime import timedelta

from sqlalchemy import delete, select, update

from app.jobs.context import Context
from app.models.base import now, transaction
from app.models.work import EventRow, IdempotentAnswer, LogChunk, Run

KEEP_ANSWERS = timedelta(days=1)  # how long an Idempotency-Key is remembered


def forget_old(ctx: Context) -> None:
    """Delete events, logs and remembered answers past their time."""
    at = now()
    events = at - timedelta(days=ctx.settings.event_retention_days)
    logs = at - timedelta(days=ctx.settings.log_retention_days)
    with transaction(ctx.engine) as session:
        session.execute(delete(EventRow).where(EventRow.at < events))
        ended = select(Run.id).where(Run.finished_at < logs)
        session.execute(delete(LogChunk).where(LogChunk.run_id.in_(ended)))
        session.execute(update(Run).where(Run.finished_at < logs).values(log_blob=None))
        session.execute(
            delete(IdempotentAnswer).where(IdempotentAnswer.created_at < at - KEEP_ANSWERS)
        )
