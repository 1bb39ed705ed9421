"""Read tasks as graphs: subtasks, edges, attempts and what hosts say; nothing here writes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from app.domain.errors import SubtaskNotFound, TaskNotFound
from app.domain.states import (
    Cause,
    Direction,
    Status,
    SubtaskStatus,
    Undo,
)
from app.jobs.context import Context
from app.jobs.graph_views import (
    AttemptView,
    HostView,
    SubtaskView,
    TaskView,
    prohibits_rollback,
)
from app.jobs.job_queries import business_names
from app.jobs.rollon import why_it_stops
from app.models.access import User
from app.models.base import chunks, reading
from app.models.fleet import Host, label_of
from app.models.work import Edge, Job, Part, Run, Subtask, Target, Task

SHOWN_HOSTS = 100  # failing hosts a look at one subtask names


# --- One task, one subtask ----------------------------------------------------------------------


def get_task(ctx: Context, task_id: int) -> TaskView:
    """That task with its whole graph, or TaskNotFound."""
    with reading(ctx.engine) as session:
        return _one(session, task_id, select(Subtask.id).where(Subtask.task_id == task_id))


def get_subtask(ctx: Context, task_id: int, subtask_id: int) -> tuple[TaskView, SubtaskView]:
    """That subtask of that task; a subtask of another task is not found."""
    with reading(ctx.engine) as session:
        chosen = select(Subtask.id).where(Subtask.id == subtask_id, Subtask.task_id == task_id)
        task = _one(session, task_id, chosen)
    if not task.subtasks:
        raise SubtaskNotFound(
            f"Task {task_id} has no subtask {subtask_id}.", task_id=task_id, id=subtask_id
        )
    return task, task.subtasks[0]


def get_task_outline(ctx: Context, task_id: int) -> TaskView:
    """That task without its graph, or TaskNotFound."""
    with reading(ctx.engine) as session:
        return _one(session, task_id, None)


def find_failed_hosts(ctx: Context, subtask_id: int) -> tuple[HostView, ...]:
    """The first hosts of a subtask that failed, each with why."""
    query = (
        select(Part.host_id, Part.status, Part.cause, Part.reason, Host.inner_ip, Host.inner_ipv6)
        .outerjoin(Host, Host.id == Part.host_id)
        .where(Part.subtask_id == subtask_id, Part.status == Status.FAILED)
        .order_by(Part.id)
        .limit(SHOWN_HOSTS)
    )
    with reading(ctx.engine) as session:
        return tuple(
            HostView(
                host_id=row.host_id,
                label=label_of(row.host_id, row.inner_ip, row.inner_ipv6),
                status=row.status,
                cause=row.cause,
                reason=row.reason,
            )
            for row in session.execute(query)
        )


def _one(session: Session, task_id: int, subtasks: Select[int] | None) -> TaskView:
    found = next(task_views(session, [task_id], with_subtasks=False), None)
    if found is None:
        raise TaskNotFound(f"There is no task {task_id}.", id=task_id)
    if subtasks is None:
        return found
    newer = session.scalar(
        select(func.max(Task.id)).where(Task.job_id == found.job_id, Task.id > task_id)
    )
    current = select(Target.id).where(Target.task_id == task_id, Target.is_current).limit(1)
    return replace(
        found,
        stops=why_it_stops(session, session.get_one(Task, task_id)),
        newer_task_id=newer,
        holds_hosts=newer is None or session.scalar(current) is not None,
        subtasks=tuple(_whole_subtasks(session, found, subtasks)),
    )


# --- Rows to views ------------------------------------------------------------------------------


def task_views(
    session: Session, ids: Sequence[int], with_subtasks: bool = True
) -> Iterator[TaskView]:
    """Views of these tasks, in this order."""
    rows: dict[int, Any] = {}
    for some in chunks(ids):
        query = (
            select(Task, Job.business_ids, User.id.label("creator_id"))
            .join(Job, Job.id == Task.job_id)
            .outerjoin(User, User.name == Task.created_by)
            .where(Task.id.in_(some))
        )
        rows |= {row.Task.id: row for row in session.execute(query)}
    names = business_names(session, (row.business_ids for row in rows.values()))
    subtasks = _bare_subtasks(session, list(rows)) if with_subtasks else {}
    return (
        _task_view(rows[task_id], names, tuple(subtasks.get(task_id, ())))
        for task_id in ids
        if task_id in rows
    )


def _task_view(row: Any, names: Mapping[int, str], subtasks: tuple[SubtaskView, ...]) -> TaskView:
    task: Task = row.Task
    return TaskView(
        id=task.id,
        job_id=task.job_id,
        subscription_id=task.subscription_id,
        name=task.name,
        status=task.status,
        operation=task.operation,
        direction=task.direction,
        businesses=tuple((b, names.get(b, str(b))) for b in row.business_ids),
        is_aborted=task.is_aborted,
        waves=tuple(task.waves) if task.rollout else (),
        open_wave=task.open_wave,
        next_wave_at=task.next_wave_at,
        waits_for_person=task.waits_for_person,
        created_by=task.created_by,
        creator_id=row.creator_id,
        created_at=task.created_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        subtasks=subtasks,
    )


COLUMNS = (
    Subtask.id,
    Subtask.task_id,
    Subtask.series,
    Subtask.stage,
    Subtask.slice,
    Subtask.wave,
    Subtask.job_type,
    Subtask.name,
    Subtask.status,
    Subtask.operation,
    Subtask.direction,
    Subtask.attempt,
    Subtask.executor,
    Subtask.created_at,
    Subtask.started_at,
    Subtask.finished_at,
)


NAMES = tuple(column.key for column in COLUMNS)


def _bare_subtasks(session: Session, task_ids: Sequence[int]) -> dict[int, list[SubtaskView]]:
    """The subtasks of many tasks, without edges, hosts and attempts."""
    found: dict[int, list[SubtaskView]] = defaultdict(list)
    for some in chunks(task_ids):
        query = select(*COLUMNS).where(Subtask.task_id.in_(some)).order_by(Subtask.series)
        for row in session.execute(query):
            found[row.task_id].append(SubtaskView(**dict(zip(NAMES, row, strict=True))))
    return found


def _whole_subtasks(session: Session, task: TaskView, chosen: Select[int]) -> Iterator[SubtaskView]:
    """These subtasks of one task with everything around them, in a handful of queries."""
    query = select(*COLUMNS).where(Subtask.id.in_(chosen)).order_by(Subtask.series)
    rows = session.execute(query).all()
    cut = _cut_stages(session, task.id)
    up, down = _edges(session, task.id)
    hosts, causes = _counts(session, chosen)
    attempts = _attempts(session, task.job_id, chosen)
    retryable = _retryable(session, task, rows)
    begun = _begun(session, rows)
    for row in rows:
        values = dict(zip(NAMES, row, strict=True))
        if row.stage not in cut:
            values["slice"] = -1
        yield SubtaskView(
            **values,
            upstreams=tuple(up[row.id]),
            downstreams=tuple(down[row.id]),
            hosts=hosts[row.id],
            causes=causes[row.id],
            attempts=tuple(attempts[row.id]),
            retryable=retryable.get(row.id, 0),
            has_begun=row.id in begun,
        )


def _retryable(session: Session, task: TaskView, rows: Iterable[Any]) -> dict[int, int]:
    """Of the failed subtasks, how many hosts a retry would take."""
    failed = [row.id for row in rows if row.status is SubtaskStatus.FAILED]
    undo = Part.undo == Undo.FAILED if task.direction is Direction.BACK else Part.undo.is_(None)
    found: dict[int, int] = {}
    for some in chunks(failed):
        query = (
            select(Part.subtask_id, func.count())
            .join(Target, Target.id == Part.target_id)
            .where(Part.subtask_id.in_(some), Part.status == Status.FAILED, undo, Target.is_current)
            .group_by(Part.subtask_id)
        )
        found |= dict(session.execute(query).all())
    return found


def _begun(session: Session, rows: Iterable[Any]) -> set[int]:
    """Which of those that cannot be taken back have begun on some host."""
    doubtful = [row.id for row in rows if prohibits_rollback(row.job_type)]
    begun: set[int] = set()
    for some in chunks(doubtful):
        touched = or_(Part.has_started, Part.status == Status.SUCCESS)
        query = select(Part.subtask_id).where(Part.subtask_id.in_(some), touched).distinct()
        begun |= set(session.scalars(query))
    return begun


def _cut_stages(session: Session, task_id: int) -> set[int]:
    """The stages that have more than one subtask."""
    query = (
        select(Subtask.stage)
        .where(Subtask.task_id == task_id)
        .group_by(Subtask.stage)
        .having(func.count() > 1)
    )
    return set(session.scalars(query))


Neighbours = dict[int, list[int]]


def _edges(session: Session, task_id: int) -> tuple[Neighbours, Neighbours]:
    up: Neighbours = defaultdict(list)
    down: Neighbours = defaultdict(list)
    query = (
        select(Edge.upstream_id, Edge.downstream_id)
        .where(Edge.task_id == task_id)
        .order_by(Edge.upstream_id, Edge.downstream_id)
    )
    for upstream, downstream in session.execute(query):
        up[downstream].append(upstream)
        down[upstream].append(downstream)
    return up, down


def _counts(
    session: Session, chosen: Select[int]
) -> tuple[dict[int, Counter[Status]], dict[int, Counter[Cause]]]:
    """How many hosts of each subtask are in each state, and why those failed that did."""
    hosts: dict[int, Counter[Status]] = defaultdict(Counter)
    causes: dict[int, Counter[Cause]] = defaultdict(Counter)
    mine = Part.subtask_id.in_(chosen)
    # the index knows the states of all hosts; only those that failed are looked up for their cause
    by_status = (
        select(Part.subtask_id, Part.status, func.count())
        .where(mine)
        .group_by(Part.subtask_id, Part.status)
    )
    for subtask_id, status, number in session.execute(by_status):
        hosts[subtask_id][status] = number
    by_cause = (
        select(Part.subtask_id, Part.cause, func.count())
        .where(mine, Part.status == Status.FAILED, Part.cause.is_not(None))
        .group_by(Part.subtask_id, Part.cause)
    )
    for subtask_id, cause, number in session.execute(by_cause):
        if cause:
            causes[subtask_id][cause] = number
    return hosts, causes


def _attempts(session: Session, job_id: int, chosen: Select[int]) -> dict[int, list[AttemptView]]:
    found: dict[int, list[AttemptView]] = defaultdict(list)
    query = (
        select(
            Run.subtask_id,
            Run.id.label("run_id"),
            Run.attempt.label("number"),
            Run.operation,
            Run.direction,
            Run.status,
            Run.outcome,
            Run.created_at,
            Run.started_at,
            Run.finished_at,
            Run.log_size,
        )
        .where(Run.job_id == job_id, Run.subtask_id.in_(chosen))
        .order_by(Run.subtask_id, Run.attempt)
    )
    names = [column["name"] for column in query.column_descriptions][1:]
    for subtask_id, *values in session.execute(query):
        found[subtask_id].append(AttemptView(**dict(zip(names, values, strict=True))))
    return found
