"""The event log of a job: numbered without gaps in the transaction that makes it true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.models.base import now
from app.models.rows import insert_rows
from app.models.work import EventRow, Job


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that happened, before it has its number."""

    kind: str  # "part", "job", "task", "subtask", "step"
    data: Mapping[str, Any]
    host_id: int | None = None
    run_id: int | None = None
    at: datetime = field(default_factory=now)


def append_events(session: Session, job_id: int, entries: Sequence[Entry]) -> None:
    """Number these events and keep them; nobody else can take the same numbers."""
    if not entries:
        return
    last = session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(last_seq=Job.last_seq + len(entries))
        .returning(Job.last_seq)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    first = last - len(entries) + 1
    insert_rows(
        session,
        EventRow,
        [
            {
                "job_id": job_id,
                "seq": first + index,
                "kind": entry.kind,
                "host_id": entry.host_id,
                "run_id": entry.run_id,
                "at": entry.at,
                "data": dict(entry.data),
            }
            for index, entry in enumerate(entries)
        ],
    )
