"""What follows a failure on the same host does not run; it says so until somebody retries."""

from functools import cache

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session, aliased

from app.domain.states import Cause, Direction, Status
from app.models.work import Part, Task

FAILED_EARLIER = "an earlier stage failed on this host"
SKIPPED_EARLIER = "an earlier stage was skipped on this host"


def block_followers(session: Session, task: Task) -> None:
    """End the pending parts whose target failed, or was skipped, in the stage before."""
    if task.direction is Direction.BACK:
        return
    session.flush()
    while rows := session.execute(_blocked(), {"task_id": task.id}).all():
        for part, why in rows:
            if why is Status.IGNORED:
                part.move_to(Status.IGNORED, SKIPPED_EARLIER)
            else:
                part.move_to(Status.FAILED, FAILED_EARLIER, cause=Cause.UPSTREAM)
        session.flush()


@cache  # asked several times whenever a run ends, and dearer to build than to execute
def _blocked() -> Select[Part, Status]:
    earlier = aliased(Part)
    return (
        select(Part, earlier.status)
        .join(earlier, earlier.target_id == Part.target_id)
        .where(
            Part.task_id == bindparam("task_id"),
            Part.status == Status.PENDING,
            earlier.stage == Part.stage - 1,
            earlier.status.in_([Status.FAILED, Status.IGNORED]),
        )
    )
