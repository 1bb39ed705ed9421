"""Skip a failed subtask: its failed hosts are left as they are, the graph goes on without them."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.graph import subtask_capability
from app.domain.states import Cause, Direction, Operation, Status
from app.jobs.block import SKIPPED_EARLIER
from app.jobs.context import Context
from app.jobs.dispatch import open_runs
from app.jobs.find import failed_parts, require, take_subtask
from app.jobs.fold import refresh_tasks
from app.jobs.reopen import WAITS
from app.log import log
from app.models.base import again_on_deadlock, among, transaction
from app.models.journal import Entry, append_events
from app.models.work import Part, Task


@again_on_deadlock
def skip_subtask(ctx: Context, task_id: int, subtask_id: int, by: str, note: str = "") -> None:
    """Let the task go on without the hosts this subtask failed on; says who and why.

    In a task that goes back, what could not be taken back counts as taken back. Raises
    TaskNotFound, SubtaskNotFound, WrongState or HeldByNewerTask.
    """
    with transaction(ctx.engine) as session:
        task, subtask = take_subtask(session, task_id, subtask_id)
        capability = subtask_capability(
            Operation.SKIP, subtask.status, task.direction, is_aborted=task.is_aborted
        )
        require(capability, subtask.status.name)
        parts = failed_parts(session, task, [subtask.id])
        reason = f"skipped by {by}" + (f": {note}" if note else "")
        for part in parts:
            _skip(part, reason)
        for part in _waiting_behind(session, parts):
            part.move_to(Status.IGNORED, SKIPPED_EARLIER)
        for part in _stopped_by_rollout(session, task):
            part.move_to(Status.PENDING, WAITS)
        subtask.operation = Operation.SKIP
        subtask.finished_at = None
        _note(session, task, parts)
        runs = open_runs(session, [task.id])
        refresh_tasks(session, [task.id])
    log.info("A subtask is skipped", task_id=task_id, subtask_id=subtask_id, by=by, note=note)
    ctx.queue.send(runs)


def _waiting_behind(session: Session, parts: list[Part]) -> list[Part]:
    """What already ended because one of these failed; on the way back nothing waits so."""
    targets = {part.target_id: part.stage for part in parts if part.undo is None}
    ended = select(Part).where(among(Part.target_id, targets), Part.cause == Cause.UPSTREAM)
    return [part for part in session.scalars(ended) if part.stage > targets[part.target_id]]


def _stopped_by_rollout(session: Session, task: Task) -> list[Part]:
    """What never began because the rollout stopped: without the skipped hosts it may go on."""
    if task.rollout is None or task.direction is Direction.BACK:
        return []
    never_begun = select(Part).where(
        Part.task_id == task.id,
        Part.status == Status.FAILED,
        Part.cause == Cause.NOT_STARTED,
        Part.run_id.is_(None),
    )
    return list(session.scalars(never_begun))


def _skip(part: Part, reason: str) -> None:
    if part.undo is None:
        part.move_to(Status.IGNORED, reason)
    else:
        part.move_to(Status.PENDING, reason, cause=Cause.ROLLED_BACK)


def _note(session: Session, task: Task, parts: list[Part]) -> None:
    session.flush()
    append_events(
        session,
        task.job_id,
        [Entry(kind="part", data=part.change, host_id=part.host_id) for part in parts],
    )
