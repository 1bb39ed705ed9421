"""Find tasks, a page at a time; nothing here writes."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from app.jobs.context import Context
from app.jobs.graph_queries import task_views
from app.jobs.graph_views import TaskFilter
from app.jobs.job_queries import names_business
from app.jobs.views import Page
from app.models.base import reading
from app.models.fleet import Business
from app.models.work import Job, Target, Task

# tasks are numbered as they are created, so this order needs no index of its own
SORTABLE: Mapping[str, Any] = {
    "id": Task.id,
    "created_at": Task.id,
    "name": Task.name,
    "status": Task.status,
    "operation": Task.operation,
    "created_by": Task.created_by,
    "started_at": Task.started_at,
    "finished_at": Task.finished_at,
}


def find_tasks(ctx: Context, wanted: TaskFilter) -> Page:
    """A page of tasks with the bare facts of their subtasks."""
    if wanted.nothing:
        return Page((), 0)
    with reading(ctx.engine) as session:
        conditions = _conditions(session, wanted)
        total = session.scalar(select(func.count()).select_from(Task).where(*conditions)) or 0
        ids = select(Task.id).where(*conditions).order_by(*_order(wanted))
        # ids first: sorting narrow rows costs a third of sorting whole ones
        page = session.scalars(ids.offset(wanted.skip).limit(wanted.take)).all()
        return Page(tuple(task_views(session, page)), total)


def find_creators(ctx: Context, visible: frozenset[int] | None) -> list[str]:
    """Everybody who made a task the reader may see."""
    with reading(ctx.engine) as session:
        conditions = _conditions(session, TaskFilter(visible=visible))
        names = select(Task.created_by).where(*conditions).distinct()
        return sorted(session.scalars(names))


def _conditions(session: Session, wanted: TaskFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name:
        conditions.append(Task.name.icontains(wanted.name, autoescape=True))
    if wanted.statuses is not None:
        conditions.append(Task.status.in_(wanted.statuses))
    if wanted.host_id is not None:
        conditions.append(Task.id.in_(_tasks_on(wanted.host_id)))
    if wanted.business_id is not None:
        conditions.append(_has_business(session, {wanted.business_id}))
    if wanted.business_name is not None:
        named = select(Business.id).where(Business.name == wanted.business_name)
        conditions.append(_has_business(session, set(session.scalars(named))))
    if wanted.visible is not None:
        conditions.append(~_has_business(session, wanted.visible, other=True))
    return conditions


def _tasks_on(host_id: int) -> Select[int]:
    return select(Target.task_id).where(Target.host_id == host_id)


def _has_business(
    session: Session, ids: Collection[int], *, other: bool = False
) -> ColumnElement[bool]:
    """Whether the businesses of the task's job hold one of these (or another)."""
    within = names_business(session, lambda one: one.not_in(ids) if other else one.in_(ids))
    # asked of each task in turn: a page is full long before all of them were looked at
    return select(1).where(Job.id == Task.job_id, within).correlate(Task).exists()


def _order(wanted: TaskFilter) -> list[ColumnElement[Any]]:
    order: list[ColumnElement[Any]] = []
    for name, ascending in wanted.sort:
        column = SORTABLE[name]
        directed = column.asc() if ascending else column.desc()
        order.append(directed.nulls_last() if column.nullable else directed)
    newest_first = not wanted.sort[-1][1] if wanted.sort else True
    return [*order, Task.id.desc() if newest_first else Task.id.asc()]
