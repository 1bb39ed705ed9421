"""Find the job, task or subtask an operation is about, with everybody else waiting for us."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.errors import (
    HeldByNewerTask,
    JobNotFound,
    SubscriptionNotFound,
    SubtaskNotFound,
    TaskNotFound,
    WrongState,
)
from app.domain.graph import Capability
from app.domain.states import Status, Undo
from app.jobs.fold import lock_task
from app.models.base import among
from app.models.counter import take_turn
from app.models.work import Job, Part, Subtask, Target, Task


def find_job(session: Session, job_id: int | None, subscription_id: int | None) -> Job:
    """The job of that id, or the one that wraps that subscription; the others wait for us."""
    take_turn(session)
    if job_id is not None:
        if job := session.get(Job, job_id):
            return job
        raise JobNotFound(f"There is no job {job_id}.", job_id=job_id)
    job = session.scalar(select(Job).where(Job.subscription_id == subscription_id))
    if job is None:
        raise SubscriptionNotFound(
            f"There is no subscription {subscription_id}.", subscription_id=subscription_id
        )
    return job


def take_task(session: Session, task_id: int) -> Task:
    """The task; whoever else wants to change it waits until we are done."""
    if session.get(Task, task_id) is None:
        raise TaskNotFound(f"There is no task {task_id}.", task_id=task_id)
    take_turn(session)
    return lock_task(session, task_id)


def take_subtask(session: Session, task_id: int, subtask_id: int) -> tuple[Task, Subtask]:
    """A task and one of its own subtasks."""
    task = take_task(session, task_id)
    subtask = session.get(Subtask, subtask_id, populate_existing=True)
    if subtask is None or subtask.task_id != task_id:
        raise SubtaskNotFound(
            f"There is no subtask {subtask_id} in task {task_id}.", subtask_id=subtask_id
        )
    return task, subtask


def require(capability: Capability, state: str) -> None:
    """Refuse what may not be done now, naming the state and the states that would allow it."""
    if not capability.allowed:
        raise WrongState(
            capability.reason,
            state=state,
            allowed=[allowed.name for allowed in capability.allowed_states],
        )


def failed_parts(session: Session, task: Task, subtask_ids: Collection[int] = ()) -> list[Part]:
    """The failed parts of a task, or of these subtasks, whose targets no newer task has.

    In a task that goes back: those that could not be taken back. Raises HeldByNewerTask when there
    are failed parts, but a newer task has them all.
    """
    query = (
        select(Part, Target.is_current)
        .join(Target, Target.id == Part.target_id)
        .where(Part.task_id == task.id, Part.status == Status.FAILED)
        .order_by(Part.id)
    )
    if subtask_ids:
        query = query.where(among(Part.subtask_id, subtask_ids))
    rows = session.execute(query).all()
    ours = [part for part, is_current in rows if is_current]
    if rows and not ours:
        newer = _newer_tasks(session, [part for part, _ in rows])
        names = ", ".join(map(str, newer))
        raise HeldByNewerTask(f"Its hosts are held by newer task {names}.", held_by=newer)
    wanted = Undo.FAILED if any(part.undo for part in ours) else None
    return [part for part in ours if part.undo is wanted]


def _newer_tasks(session: Session, parts: Collection[Part]) -> list[int]:
    query = select(Target.task_id).where(
        among(Target.job_id, {part.job_id for part in parts}),
        among(Target.host_id, {part.host_id for part in parts}),
        Target.is_current,
    )
    return sorted(set(session.scalars(query)))
