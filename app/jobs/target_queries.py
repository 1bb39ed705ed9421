"""Read the targets of jobs, with their parts and steps; nothing here writes."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.orm import Session

from app.domain.errors import InstanceNotFound, TaskNotFound
from app.domain.states import Status
from app.jobs.context import Context
from app.jobs.instances import stored_names
from app.jobs.job_queries import get_task_ids, hosts_at, window
from app.jobs.step_queries import part_views
from app.jobs.views import JobView, Page, PartView, TargetFilter, TargetView
from app.models.base import chunks, reading
from app.models.fleet import Business, Zone
from app.models.work import Subscription, Target


def list_targets(
    ctx: Context, job: JobView, wanted: TargetFilter, *, steps: bool = True, logs: bool = False
) -> Page:
    """Targets of a job, by default the current ones with the failed first."""
    with reading(ctx.engine) as session:
        chosen = _chosen(session, job.id, wanted)
        total = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
        order = [case((Target.status == Status.FAILED, 0), else_=1)] if wanted.failed_first else []
        ids = session.scalars(
            window(chosen.order_by(*order, Target.id), wanted.skip, wanted.take)
        ).all()
        return Page(
            tuple(_target_views(session, ids, _stage_ids(session, job), steps=steps, logs=logs)),
            total,
        )


def count_targets(ctx: Context, job: JobView, wanted: TargetFilter) -> dict[Status, int]:
    """How many of these targets are in each state."""
    with reading(ctx.engine) as session:
        ids = _chosen(session, job.id, wanted)
        query = (
            select(Target.status, func.count()).where(Target.id.in_(ids)).group_by(Target.status)
        )
        return dict(session.execute(query).all())


def get_target(
    ctx: Context, job: JobView, instance_id: str, task_ids: Collection[int] = ()
) -> TargetView:
    """The newest record of one instance, with its logs; InstanceNotFound when there is none."""
    with reading(ctx.engine) as session:
        stored = stored_names(session, job.id, [instance_id])[instance_id]
        query = select(Target.id).where(Target.job_id == job.id, Target.instance_id == stored)
        if task_ids:
            query = query.where(Target.task_id.in_(list(task_ids)))
        target_id = session.scalar(query.order_by(Target.id.desc()).limit(1))
        if target_id is None:
            raise InstanceNotFound(
                f"Job {job.id} has no instance {instance_id}.", instance_id=instance_id
            )
        return next(
            _target_views(session, [target_id], _stage_ids(session, job), steps=True, logs=True)
        )


def latest_targets(ctx: Context, host_ids: Sequence[int]) -> dict[int, TargetView]:
    """What was last done on each of these hosts, in any job."""
    with reading(ctx.engine) as session:
        found: dict[int, TargetView] = {}
        for some in chunks(host_ids):
            newest = (
                select(func.max(Target.id)).where(Target.host_id.in_(some)).group_by(Target.host_id)
            )
            ids = session.scalars(newest).all()
            views = _target_views(session, ids, {}, steps=True, logs=False)
            found |= {view.host_id: view for view in views}
        return found


def check_tasks(ctx: Context, job: JobView, task_ids: Iterable[int]) -> None:
    """Refuse task ids that are not this job's."""
    unknown = sorted(set(task_ids) - set(get_task_ids(ctx, job.id)))
    if unknown:
        raise TaskNotFound(
            f"Subscription {job.subscription_id} has no task {', '.join(map(str, unknown))}.",
            task_ids=unknown,
        )


def resolve_instances(ctx: Context, job_id: int, instance_ids: Sequence[str]) -> tuple[str, ...]:
    """These instances by the names they are stored under: a host may be meant by id or address."""
    if not instance_ids:
        return ()
    with reading(ctx.engine) as session:
        stored = stored_names(session, job_id, instance_ids)
    return tuple(dict.fromkeys(stored[asked] for asked in instance_ids))


def _chosen(session: Session, job_id: int, wanted: TargetFilter) -> Select[int]:
    query = select(Target.id).where(Target.job_id == job_id)
    if wanted.task_ids is None:
        query = query.where(Target.is_current)
    else:
        of_tasks = Target.task_id.in_(sorted(wanted.task_ids))
        if len(wanted.task_ids) > 1:  # a task has each instance once, several may have it again
            newest = select(func.max(Target.id)).where(Target.job_id == job_id, of_tasks)
            of_tasks = Target.id.in_(newest.group_by(Target.instance_id))
        query = query.where(of_tasks)
    if wanted.statuses is not None:
        query = query.where(Target.status.in_(wanted.statuses))
    if wanted.instance_ids is not None:
        stored = stored_names(session, job_id, wanted.instance_ids)
        query = query.where(Target.instance_id.in_(set(stored.values())))
    if wanted.excluded_ids:
        stored = stored_names(session, job_id, wanted.excluded_ids)
        query = query.where(Target.instance_id.not_in(set(stored.values())))
    if wanted.addresses is not None:
        query = query.where(_is_at(wanted.addresses))
    return query


def _is_at(addresses: Collection[str]) -> ColumnElement[bool]:
    """Whether the host has one of these addresses now, or had when the job was made."""
    then = (Target.snapshot[name].as_string() for name in ("inner_ip", "inner_ipv6"))
    return or_(
        Target.host_id.in_(hosts_at(addresses)), *(place.in_(sorted(addresses)) for place in then)
    )


def _target_views(
    session: Session,
    ids: Sequence[int],
    stage_ids: Mapping[int, str],
    *,
    steps: bool,
    logs: bool,
) -> Iterator[TargetView]:
    """Views of these targets, in this order."""
    zones = {row.id: row.name for row in session.execute(select(Zone.id, Zone.name))}
    businesses = {row.id: row.name for row in session.execute(select(Business.id, Business.name))}
    for some in chunks(ids):
        query = select(*TARGET_COLUMNS).where(Target.id.in_(some))
        rows = {row.id: row for row in session.execute(query)}
        parts = part_views(session, some, stage_ids, steps=steps, logs=logs)
        for target_id in some:
            if row := rows.get(target_id):
                yield _target_view(row, parts.get(target_id, ()), zones, businesses)


def _stage_ids(session: Session, job: JobView) -> dict[int, str]:
    """What the stages of a job's subscription are called, by position."""
    query = select(Subscription.stages).where(Subscription.id == job.subscription_id)
    stages = session.scalar(query) or []
    return {index: str(stage.get("id", index)) for index, stage in enumerate(stages)}


TARGET_COLUMNS = (
    Target.id,
    Target.task_id,
    Target.job_id,
    Target.instance_id,
    Target.host_id,
    Target.status,
    Target.created_at,
    Target.started_at,
    Target.finished_at,
    Target.snapshot,
)


def _target_view(
    row: Any,
    parts: tuple[PartView, ...],
    zones: Mapping[int, str],
    businesses: Mapping[int, str],
) -> TargetView:
    host = row.snapshot
    return TargetView(
        id=row.id,
        task_id=row.task_id,
        job_id=row.job_id,
        instance_id=row.instance_id,
        host_id=row.host_id,
        status=row.status,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        inner_ip=host.get("inner_ip") or "",
        inner_ipv6=host.get("inner_ipv6") or "",
        zone_id=host.get("zone_id", 0),
        zone_name=zones.get(host.get("zone_id", 0), ""),
        business_id=host.get("business_id", 0),
        business_name=businesses.get(host.get("business_id", 0), ""),
        hostname=host.get("hostname") or "",
        os_type=host.get("os_type") or "",
        access_point_id=host.get("access_point_id"),
        is_manual=bool(host.get("is_manual")),
        parts=parts,
    )
