"""Stop what waits or runs: at once where nothing began, with proof where a host was touched."""

from collections.abc import Collection, Sequence

from sqlalchemy import Select, not_, select, update
from sqlalchemy.orm import Session

from app.domain.commands import RevokeJob
from app.domain.errors import NothingToStop
from app.domain.graph import subtask_capability, task_capability
from app.domain.states import Cause, Operation, RunStatus, Status, SubtaskStatus
from app.jobs.context import Context
from app.jobs.dispatch import wake_waiting
from app.jobs.find import find_job, require, take_subtask, take_task
from app.jobs.fold import refresh_tasks
from app.jobs.instances import stored_names
from app.jobs.report import GIVEN_UP
from app.jobs.settle import NEVER_BEGUN, close_steps
from app.log import log
from app.models.base import again_on_deadlock, among, now, transaction
from app.models.journal import Entry, append_events
from app.models.work import Job, Part, Run, RunPart, Subtask, Target, Task, is_unfinished


@again_on_deadlock
def revoke_job(ctx: Context, command: RevokeJob) -> None:
    """Stop a job, or some of its targets (contracts/nodeman.md §3.5).

    What no worker has yet is cancelled now; the rest once it is proved stopped. Raises
    NothingToStop when nothing waits or runs.
    """
    with transaction(ctx.engine) as session:
        job = find_job(session, command.job_id, command.subscription_id)
        parts = _unfinished(session, job, command.instance_ids)
        if not parts:
            raise NothingToStop(f"Job {job.id} has nothing that waits or runs.", job_id=job.id)
        job.is_stopping = job.is_stopping or not command.instance_ids
        runs = stop_parts(session, job.id, parts)
    ctx.queue.send(runs)


@again_on_deadlock
def cancel_subtask(ctx: Context, task_id: int, subtask_id: int, by: str, note: str = "") -> None:
    """Stop a subtask that waits for a worker or runs; it ends FAILED once it is proved stopped.

    One that is being stopped already is left to it. Raises TaskNotFound, SubtaskNotFound or
    WrongState (contracts/ocp-tasks.md §2.5, §8).
    """
    with transaction(ctx.engine) as session:
        task, subtask = take_subtask(session, task_id, subtask_id)
        if subtask.status is SubtaskStatus.CANCELING:
            return
        require(
            subtask_capability(Operation.CANCEL, subtask.status, task.direction),
            subtask.status.name,
        )
        parts = session.scalars(_at_work(subtask)).all()
        subtask.operation = Operation.CANCEL
        runs = stop_parts(session, task.job_id, parts)
    log.info("A subtask is cancelled", task_id=task_id, subtask_id=subtask_id, by=by, note=note)
    ctx.queue.send(runs)


def _at_work(subtask: Subtask) -> Select[Part]:
    """The parts its live run has, or without a run those a person does."""
    parts = select(Part).join(Task, Task.id == Part.task_id).where(is_unfinished())
    if subtask.live_run_id is None:
        return parts.where(Part.subtask_id == subtask.id, Part.status == Status.RUNNING)
    return parts.join(RunPart, RunPart.part_id == Part.id).where(
        RunPart.run_id == subtask.live_run_id
    )


@again_on_deadlock
def abort_task(ctx: Context, task_id: int, by: str, note: str = "") -> None:
    """Accept that a task has failed: what waits will not run, and no operation follows.

    Raises TaskNotFound or WrongState.
    """
    with transaction(ctx.engine) as session:
        task = take_task(session, task_id)
        require(
            task_capability(
                Operation.CANCEL, task.status, task.direction, False, is_aborted=task.is_aborted
            ),
            task.status.name,
        )
        task.is_aborted = True
        refresh_tasks(session, [task.id])
    log.info("A task is aborted", task_id=task_id, by=by, note=note)


def _unfinished(session: Session, job: Job, names: Sequence[str]) -> list[Part]:
    """The unfinished parts of the job's current targets, or of those of these names.

    Two queries: PostgreSQL joined ten thousand fresh rows by reading all of one for each of the
    other.
    """
    targets = select(Target.id).where(Target.job_id == job.id, Target.is_current)
    if names:
        stored = stored_names(session, job.id, names)
        targets = targets.where(Target.instance_id.in_(set(stored.values())))
    current = set(session.scalars(targets))
    query = select(Part).join(Task, Task.id == Part.task_id).order_by(Part.id)
    parts = session.scalars(query.where(Task.job_id == job.id, is_unfinished()))
    return [part for part in parts if part.target_id in current]


def stop_parts(session: Session, job_id: int, parts: Collection[Part]) -> list[int]:
    """Cancel these parts, or ask the runs that have them to; returns runs that others may start."""
    held = _held(session, parts)
    free = [part for part in parts if part.id not in held]
    for part in free:
        # what runs and no worker has is a person's: nobody knows how far that person came
        by_hand = part.status is Status.RUNNING
        part.fail(GIVEN_UP if by_hand else NEVER_BEGUN, Cause.CANCELLED)
    close_steps(session, free)
    append_events(
        session, job_id, [Entry(kind="part", data=p.change, host_id=p.host_id) for p in free]
    )
    _forget_unclaimed(session, free)
    for run_id in set(held.values()):
        _ask(session, run_id, {part.id for part in parts if held.get(part.id) == run_id})
    tasks = sorted({part.task_id for part in parts})
    # in their own tasks too: a rollout goes on, or has nothing left to wait for
    runs = wake_waiting(session, [part.host_id for part in free], tasks)
    refresh_tasks(session, tasks)
    return runs


def _held(session: Session, parts: Collection[Part]) -> dict[int, int]:
    """Which of these parts a worker has: part id → run id."""
    query = (
        select(RunPart.part_id, RunPart.run_id)
        .join(Run, Run.id == RunPart.run_id)
        .where(
            among(RunPart.part_id, (part.id for part in parts)),
            Run.status.in_([RunStatus.RUNNING, RunStatus.CANCELING]),
        )
    )
    return {part_id: run_id for part_id, run_id in session.execute(query)}


def _forget_unclaimed(session: Session, parts: Collection[Part]) -> None:
    """Runs nobody claimed yet lose these parts, and end when none is left."""
    session.flush()
    theirs = select(RunPart.run_id).where(among(RunPart.part_id, (part.id for part in parts)))
    left = (
        select(RunPart.part_id)
        .join(Part, Part.id == RunPart.part_id)
        .join(Task, Task.id == Part.task_id)
        .where(RunPart.run_id == Run.id, is_unfinished())
    )
    over = (
        update(Run)
        .where(Run.id.in_(theirs), Run.status == RunStatus.READY, not_(left.exists()))
        .values(status=RunStatus.ENDED, outcome="stopped", finished_at=now())
        .returning(Run.id)
        .execution_options(synchronize_session=False)
    )
    ended = session.scalars(over).all()
    free = update(Subtask).where(among(Subtask.live_run_id, ended)).values(live_run_id=None)
    session.execute(free)


def _ask(session: Session, run_id: int, part_ids: set[int]) -> None:
    """Ask the worker of a run to stop these parts; all of them means the run itself."""
    session.execute(
        update(RunPart)
        .where(RunPart.run_id == run_id, among(RunPart.part_id, part_ids))
        .values(stop_requested=True)
    )
    session.flush()
    going_on = (
        select(RunPart.part_id)
        .join(Part, Part.id == RunPart.part_id)
        .join(Task, Task.id == Part.task_id)
        .where(RunPart.run_id == run_id, RunPart.stop_requested.is_(False), is_unfinished())
    )
    if session.scalar(going_on.limit(1)) is not None:
        return
    asked = (
        update(Run)
        .where(Run.id == run_id, Run.status == RunStatus.RUNNING)
        .values(status=RunStatus.CANCELING, stop_requested_at=now())
    )
    if session.execute(asked.returning(Run.id)).scalar() is not None:
        session.execute(
            update(Subtask)
            .where(Subtask.live_run_id == run_id)
            .values(operation=Operation.CANCEL, status=SubtaskStatus.CANCELING)
        )
