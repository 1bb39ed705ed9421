"""Do the work that is only a record: it is done when the transaction is."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.credentials import forget_credentials
from app.domain.catalogue import JobType
from app.domain.states import Cause, Status
from app.jobs.outcome import apply_effect
from app.models.base import now
from app.models.fleet import Host, HostLock
from app.models.journal import Entry, append_events
from app.models.work import Part, StepRow, Task


def record_parts(session: Session, job_type: JobType, task: Task) -> None:
    """Prove what waits for it by writing it down, except on hosts another job is changing."""
    rows = session.execute(
        select(Part, Host, HostLock.job_id)
        .join(Host, Host.id == Part.host_id)
        .outerjoin(HostLock, HostLock.host_id == Part.host_id)
        .where(
            Part.task_id == task.id,
            Part.job_type == job_type.name,
            Part.status == Status.PENDING,
        )
    ).all()
    entries = []
    for part, host, holder in rows:
        if holder:
            reason = f"job {holder} is changing it; wait for it or revoke it, then retry"
            part.move_to(Status.FAILED, reason, cause=Cause.TASK_FAILED)
        else:
            apply_effect(host, job_type.effect, {})
            part.move_to(Status.SUCCESS, "recorded")
        session.merge(_step(job_type, part))
        entries.append(Entry(kind="part", data=part.change, host_id=part.host_id))
    forget_credentials(session, [host.id for _, host, holder in rows if not holder])
    append_events(session, task.job_id, entries)


def _step(job_type: JobType, part: Part) -> StepRow:
    at = now()
    return StepRow(
        part_id=part.id,
        index=0,
        key=job_type.steps[0].key,
        status=part.status,
        log=part.reason,
        run_id=0,
        started_at=at,
        finished_at=at,
    )
