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
from app.models.work import (
    TOUCHED,
    Job,
    Part,
    Run,
    Subtask,
    Target,
    Task,
    count_statuses,
    is_unfinished,
)

AS_IT_IS = {"populate_existing": True}  # what the session thinks it knows is read again


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
        statuses, entries = _refresh_subtasks(session, task)
        entries += _refresh_task(session, task, statuses)
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
    locked = update(Task).where(Task.id == task_id).values(version=Task.version + 1)
    return session.execute(locked.returning(Task), execution_options=AS_IT_IS).scalar_one()


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


def _refresh_subtasks(session: Session, task: Task) -> tuple[set[SubtaskStatus], list[Entry]]:
    """Their statuses, and what changed.

    Rows are compared, not objects: a task may have a thousand subtasks, and a settle changes two.
    """
    parts = _said_by_parts(session, task)
    live = _live_runs(session, task)
    columns = select(Subtask.id, Subtask.status, Subtask.finished_at)
    statuses, changes, entries = set(), [], []
    for subtask_id, old, ended_at in session.execute(columns.where(Subtask.task_id == task.id)):
        new = fold_subtask(parts[subtask_id], live.get(subtask_id), task.direction)
        statuses.add(new)
        has_ended = new in (SubtaskStatus.FAILED, SubtaskStatus.SUCCESSFUL)
        if old is not new:
            data = {"subtask_id": subtask_id, "status": new.value}
            entries.append(Entry(kind="subtask", data=data))
        if old is not new or has_ended != bool(ended_at):
            ended_at = (ended_at or now()) if has_ended else None
            changes.append({"id": subtask_id, "status": new, "finished_at": ended_at})
    update_rows(session, Subtask, changes)
    for change in changes:
        if known := session.identity_map.get(session.identity_key(Subtask, change["id"])):
            session.expire(known, ["status", "finished_at"])
    return statuses, entries


def _said_by_parts(session: Session, task: Task) -> dict[int, list[tuple[Status, Cause | None]]]:
    """What the parts of each subtask say, each thing once."""
    said: dict[int, list[tuple[Status, Cause | None]]] = defaultdict(list)
    columns = select(Part.subtask_id, Part.status, Part.cause).distinct()
    for subtask_id, status, cause in session.execute(columns.where(Part.task_id == task.id)):
        said[subtask_id].append((status, cause))
    return said


def _waits(session: Session, task: Task) -> bool:
    """Whether some part of the task waits for something that is alive."""
    query = select(Part.id).join(Task, Task.id == Part.task_id)
    query = query.where(Part.task_id == task.id, is_unfinished())
    return session.scalar(query.limit(1)) is not None


def _live_runs(session: Session, task: Task) -> dict[int, RunStatus]:
    query = select(Run.subtask_id, Run.status).where(
        Run.task_id == task.id, Run.status != RunStatus.ENDED
    )
    return {row.subtask_id: row.status for row in session.execute(query)}


def _refresh_task(session: Session, task: Task, statuses: set[SubtaskStatus]) -> Iterator[Entry]:
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
    if status is JobStatus.PENDING and job.started_at:
        status = JobStatus.RUNNING  # all its hosts are tried again (contracts/nodeman.md §2.6)
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
