"""Forget what is old: events and logs go, parts and their reasons stay."""

from datetime import timedelta

from sqlalchemy import delete, select, update

from app.jobs.context import Context
from app.models.base import now, transaction
from app.models.work import EventRow, IdempotentAnswer, LogChunk, Run, StepRow

KEEP_ANSWERS = timedelta(days=1)  # how long an Idempotency-Key is remembered
FORGOTTEN = "This log is past its time and was deleted."


def forget_old(ctx: Context) -> None:
    """Delete events, logs and remembered answers past their time."""
    at = now()
    events = at - timedelta(days=ctx.settings.event_retention_days)
    logs = at - timedelta(days=ctx.settings.log_retention_days)
    with transaction(ctx.engine) as session:
        session.execute(delete(EventRow).where(EventRow.at < events))
        ended = select(Run.id).where(Run.finished_at < logs)
        session.execute(delete(LogChunk).where(LogChunk.run_id.in_(ended)))
        kept = Run.log_blob.is_not(None)
        session.execute(update(Run).where(Run.finished_at < logs, kept).values(log_blob=None))
        said = StepRow.log.not_in(["", FORGOTTEN])
        session.execute(
            update(StepRow).where(StepRow.finished_at < logs, said).values(log=FORGOTTEN)
        )
        session.execute(
            delete(IdempotentAnswer).where(IdempotentAnswer.created_at < at - KEEP_ANSWERS)
        )
