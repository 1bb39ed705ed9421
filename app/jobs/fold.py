"""Keep the caches of targets, subtasks, task and job equal to what their parts say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.domain.states import (
    Cause,
    Direction,
    JobStatus,
    RunStatus,
    Status,
    SubtaskStatus,
    TaskStatus,
    Undo,
    fold_job,
    fold_subtask,
    fold_target,
    fold_target_back,
    fold_task,
)
from app.jobs.block import block_followers
from app.models.base import chunks, now
from app.models.journal import Entry, append_events
from app.models.rows import update_rows
from app.models.work import TOUCHED, Job, Part, Run, Subtask, Target, Task, count_statuses


def refresh_tasks(session: Session, task_ids: Iterable[int]) -> None:
    """Derive everything above the parts again: of these tasks, and wherever a part has changed.

    A task's version goes up first, so that two settles of one task wait for each other and none
    misses the other.
    """
    session.flush()
    for task_id in sorted({*task_ids, *_touched(session)}):
        task = lock_task(session, task_id)
        block_followers(session, task)
        _refresh_targets(session, task)
        entries = [*_refresh_subtasks(session, task), *_refresh_task(session, task)]
        append_events(session, task.job_id, entries)
        session.flush()
        refresh_job(session, task.job_id)


def refresh_targets(session: Session, task_id: int) -> None:
    """Show progress inside a live run: changed targets and the job's counts, nothing between."""
    session.flush()
    task = session.get_one(Task, task_id)
    _refresh_targets(session, task)
    session.flush()
    refresh_job(session, task.job_id)


def _touched(session: Session) -> set[int]:
    return {task_id for task_id, _ in session.info.get(TOUCHED, ())}


def lock_task(session: Session, task_id: int) -> Task:
    """The task, with every other writer of it waiting for us."""
    session.execute(update(Task).where(Task.id == task_id).values(version=Task.version + 1))
    return session.get_one(Task, task_id, populate_existing=True)


def _refresh_targets(session: Session, task: Task) -> None:
    touched: set[tuple[int, int]] = session.info.get(TOUCHED, set())
    ours = {pair for pair in touched if pair[0] == task.id}
    touched -= ours
    parts: dict[int, list[Any]] = defaultdict(list)
    columns = (Part.target_id, Part.status, Part.undo, Part.started_at, Part.finished_at)
    for some in chunks(sorted(target_id for _, target_id in ours)):
        for row in session.execute(select(*columns).where(Part.target_id.in_(some))):
            parts[row.target_id].append(row)
    changes = [_target_values(target_id, rows, task.direction) for target_id, rows in parts.items()]
    update_rows(session, Target, changes)


def _target_values(target_id: int, rows: list[Any], direction: Direction) -> dict[str, Any]:
    if direction is Direction.FORWARD:
        status = fold_target(row.status for row in rows)
    else:
        status = fold_target_back((row.status, row.undo) for row in rows)
    finished = [row.finished_at for row in rows if row.finished_at]
    return {
        "id": target_id,
        "status": status,
        "started_at": min((row.started_at for row in rows if row.started_at), default=None),
        "finished_at": max(finished) if finished and status.is_final else None,
    }


def _refresh_subtasks(session: Session, task: Task) -> Iterator[Entry]:
    counts: dict[int, list[tuple[Status, Cause | None]]] = defaultdict(list)
    grouped = (
        select(Part.subtask_id, Part.status, Part.cause)
        .where(Part.task_id == task.id)
        .group_by(Part.subtask_id, Part.status, Part.cause)
    )
    for subtask_id, status, cause in session.execute(grouped):
        counts[subtask_id].append((status, cause))
    live = _live_runs(session, task)
    for subtask in session.scalars(select(Subtask).where(Subtask.task_id == task.id)):
        old = subtask.status
        subtask.status = fold_subtask(counts[subtask.id], live.get(subtask.id), task.direction)
        if subtask.status in (SubtaskStatus.FAILED, SubtaskStatus.SUCCESSFUL):
            subtask.finished_at = subtask.finished_at or now()
        else:
            subtask.finished_at = None
        if old is not subtask.status:
            data = {"subtask_id": subtask.id, "status": subtask.status.value}
            yield Entry(kind="subtask", data=data)


def _waits(session: Session, task: Task) -> bool:
    """Whether some part of the task waits for something that is alive."""
    if task.is_aborted:
        waiting = Part.status == Status.RUNNING
    elif task.direction is Direction.FORWARD:
        waiting = Part.status.in_([Status.PENDING, Status.RUNNING])
    else:
        # behind a part that could not be taken back, the earlier ones wait for a person's retry
        stuck = select(Part.target_id).where(Part.task_id == task.id, Part.undo == Undo.FAILED)
        waiting = (Part.undo == Undo.DUE) & Part.target_id.not_in(stuck)
    query = select(Part.id).where(Part.task_id == task.id, waiting)
    return session.scalar(query.limit(1)) is not None


def _live_runs(session: Session, task: Task) -> dict[int, RunStatus]:
    query = select(Run.subtask_id, Run.status).where(
        Run.task_id == task.id, Run.status != RunStatus.ENDED
    )
    return {row.subtask_id: row.status for row in session.execute(query)}


def _refresh_task(session: Session, task: Task) -> Iterator[Entry]:
    statuses = session.scalars(select(Subtask.status).where(Subtask.task_id == task.id)).all()
    old = task.status
    task.status = fold_task(statuses, _waits(session, task), task.direction)
    if task.status is TaskStatus.RUNNING:
        task.finished_at = None
    else:
        task.finished_at = task.finished_at or now()
    if old is not task.status:
        data = {"task_id": task.id, "status": task.status.value}
        yield Entry(kind="task", data=data)


def refresh_job(session: Session, job_id: int) -> None:
    """Count the job's current targets and derive its status; TERMINATED only while it stops."""
    job = session.get_one(Job, job_id, populate_existing=True)
    grouped = (
        select(Target.status, func.count())
        .where(Target.job_id == job_id, Target.is_current)
        .group_by(Target.status)
    )
    counts = Counter({status: number for status, number in session.execute(grouped)})
    counts[Status.IGNORED] += len(job.filtered)
    status = fold_job(counts)
    if status.is_final and _is_live(session, job_id):
        status = JobStatus.RUNNING  # its runs still hold hosts; settle will say it is over
    if job.is_stopping and not status.is_final:
        status = JobStatus.TERMINATED
    _write_job(session, job, status, counts)


def _is_live(session: Session, job_id: int) -> bool:
    live = select(Run.id).where(Run.job_id == job_id, Run.status != RunStatus.ENDED)
    return session.scalar(live.limit(1)) is not None


def _write_job(session: Session, job: Job, status: JobStatus, counts: Counter[Status]) -> None:
    job.counts = count_statuses(()) | {key.value: number for key, number in counts.items()}
    if status.is_final:
        job.is_stopping = False
        job.finished_at = job.finished_at or now()
    else:
        job.finished_at = None
    if status is not JobStatus.PENDING:
        job.started_at = job.started_at or now()
    changed = job.status is not status
    job.status = status
    session.flush()
    if changed:
        data = {"status": status.value, "counts": dict(job.counts)}
        append_events(session, job.id, [Entry(kind="job", data=data)])
