"""Read the event log of a job in its order, and notice what is no longer there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from app.domain.errors import JobNotFound
from app.jobs.context import Context
from app.models.base import reading
from app.models.work import EventRow, Job

BATCH = 500  # events in one look


@dataclass(frozen=True, kw_only=True)
class EventView:
    """One thing that happened in a job."""

    seq: int
    kind: str
    at: datetime
    host_id: int | None
    run_id: int | None
    data: dict[str, Any]


@dataclass(frozen=True)
class Gap:
    """Numbers that are no longer there: retention took their events."""

    first: int
    last: int


@dataclass(frozen=True)
class JobPulse:
    """How far a job's events have come, and whether more can follow by themselves."""

    last_seq: int
    status: str
    is_over: bool
    business_ids: tuple[int, ...]


def job_pulse(ctx: Context, job_id: int) -> JobPulse:
    """One look at a job by its primary key, or JobNotFound."""
    query = select(Job.last_seq, Job.status, Job.is_stopping, Job.business_ids)
    with reading(ctx.engine) as session:
        row = session.execute(query.where(Job.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"There is no job {job_id}.", job_id=job_id)
    return JobPulse(
        last_seq=row.last_seq,
        status=row.status.value,
        is_over=row.status.is_final and not row.is_stopping,
        business_ids=tuple(row.business_ids),
    )


def events_after(ctx: Context, job_id: int, after: int, last: int) -> Iterator[EventView | Gap]:
    """Every event numbered after `after` up to `last`; what is missing between is said."""
    while after < last:
        rows = _rows(ctx, job_id, after, last)
        for row in rows:
            if row.seq > after + 1:
                yield Gap(after + 1, row.seq - 1)
            yield row
            after = row.seq
        if len(rows) < BATCH:
            break
    if after < last:
        yield Gap(after + 1, last)


def _rows(ctx: Context, job_id: int, after: int, last: int) -> Sequence[EventView]:
    query = (
        select(
            EventRow.seq,
            EventRow.kind,
            EventRow.at,
            EventRow.host_id,
            EventRow.run_id,
            EventRow.data,
        )
        .where(EventRow.job_id == job_id, EventRow.seq > after, EventRow.seq <= last)
        .order_by(EventRow.seq)
        .limit(BATCH)
    )
    with reading(ctx.engine) as session:
        return [EventView(**row._mapping) for row in session.execute(query)]
