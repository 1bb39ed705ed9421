"""Roll a failed task back: on every host it changed, what was there before comes back."""

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE
from app.domain.errors import HeldByNewerTask, RollbackProhibited
from app.domain.graph import task_capability
from app.domain.states import Cause, Direction, Operation, Status, TaskStatus, Undo
from app.jobs.context import Context
from app.jobs.dispatch import open_runs
from app.jobs.find import failed_parts, require, take_task
from app.jobs.fold import refresh_tasks
from app.jobs.reopen import mark_subtasks, reopen_parts
from app.jobs.retry import check_logins
from app.jobs.undo import check_former, must_undo
from app.log import log
from app.models.base import again_on_deadlock, transaction
from app.models.journal import Entry, append_events
from app.models.work import Part, Subtask, Target, Task

UNTOUCHED = "nothing of this stage was on the host, so nothing had to be taken back"


@again_on_deadlock
def roll_back_task(ctx: Context, task_id: int, by: str) -> None:
    """Take back everything this task did, last stage first; a failed rollback is tried again.

    Raises TaskNotFound, WrongState, RollbackProhibited, HeldByNewerTask, LoginMissing or
    PackageMissing, and then nothing has begun.
    """
    with transaction(ctx.engine) as session:
        task = take_task(session, task_id)
        _check(session, task)
        if task.direction is Direction.BACK:
            reopen_parts(session, failed_parts(session, task), Operation.ROLLBACK)
        else:
            _turn_back(session, task)
        due = select(Part.host_id, Part.job_type).where(
            Part.task_id == task.id, Part.undo == Undo.DUE
        )
        owed = session.execute(due).all()
        stages = {CATALOGUE[job_type] for _, job_type in owed}
        check_logins(ctx, session, [host_id for host_id, _ in owed], stages)
        check_former(session, task)
        runs = open_runs(session, [task.id])
        refresh_tasks(session, [task.id])
    log.info("A task is rolled back", task_id=task_id, by=by)
    ctx.queue.send(runs)


def prohibits_rollback(parts: Collection[tuple[str, Status, bool]]) -> bool:
    """Whether something that has begun cannot be taken back; parts as (job type, status, begun)."""
    return any(
        CATALOGUE[job_type].prohibits_rollback and (begun or status is Status.SUCCESS)
        for job_type, status, begun in parts
    )


def _check(session: Session, task: Task) -> None:
    columns = (Part.job_type, Part.status, Part.has_started)
    begun = session.execute(select(*columns).where(Part.task_id == task.id).distinct()).all()
    prohibited = prohibits_rollback([(row[0], row[1], row[2]) for row in begun])
    capability = task_capability(
        Operation.ROLLBACK, task.status, task.direction, prohibited, is_aborted=task.is_aborted
    )
    if prohibited and task.status is TaskStatus.FAILED:
        raise RollbackProhibited(capability.reason)
    require(capability, task.status.name)


def _turn_back(session: Session, task: Task) -> None:
    """From now on the task goes back: what it left on hosts is due, the rest is back already."""
    rows = session.execute(
        select(Part, Target.is_current)
        .join(Target, Target.id == Part.target_id)
        .where(Part.task_id == task.id)
        .order_by(Part.id)
    ).all()
    parts = [part for part, is_current in rows if is_current]
    if not parts:
        raise HeldByNewerTask("A newer task has every host of this one; roll that one back first.")
    for part in parts:
        if must_undo(part):
            part.owe()
        else:
            part.move_to(Status.PENDING, UNTOUCHED, cause=Cause.ROLLED_BACK)
    for part, is_current in rows:
        if not is_current:
            part.move_to(Status.PENDING, "a newer task has this host; it is left as it is")
    task.direction, task.operation, task.finished_at = Direction.BACK, Operation.ROLLBACK, None
    session.execute(
        update(Subtask).where(Subtask.task_id == task.id).values(direction=Direction.BACK)
    )
    mark_subtasks(session, {part.subtask_id for part in parts if part.undo}, Operation.ROLLBACK)
    session.flush()
    append_events(
        session,
        task.job_id,
        [Entry(kind="part", data=part.change, host_id=part.host_id) for part in parts],
    )
