"""Read jobs; nothing here writes, and no wire word appears."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, or_, select
from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE
from app.domain.commands import FilteredHost
from app.domain.errors import JobNotFound, SubscriptionNotFound
from app.domain.states import Status
from app.jobs.context import Context
from app.jobs.views import JobFilter, JobView, Page
from app.models.base import reading
from app.models.fleet import Business, Host
from app.models.work import Job, Subscription, Target, Task


def find_jobs(ctx: Context, wanted: JobFilter) -> Page:
    """Jobs, the newest first."""
    with reading(ctx.engine) as session:
        query = _filter_jobs(session, select(Job), wanted)
        total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
        rows = session.scalars(window(_sort_jobs(query, wanted), wanted.skip, wanted.take))
        return Page(_job_views(session, rows.all()), total)


def get_job(ctx: Context, job_id: int) -> JobView:
    """That job, or JobNotFound."""
    with reading(ctx.engine) as session:
        job = session.get(Job, job_id)
        if job is None:
            raise JobNotFound(f"There is no job {job_id}.", job_id=job_id)
        return _job_views(session, [job])[0]


def get_job_of_subscription(ctx: Context, subscription_id: int) -> JobView:
    """The job that owns that subscription, or SubscriptionNotFound."""
    with reading(ctx.engine) as session:
        query = (
            select(Job)
            .join(Subscription, Subscription.id == Job.subscription_id)
            .where(Job.subscription_id == subscription_id, ~Subscription.is_deleted)
        )
        job = session.scalar(query)
        if job is None:
            raise SubscriptionNotFound(
                f"There is no subscription {subscription_id}.", subscription_id=subscription_id
            )
        return _job_views(session, [job])[0]


def get_task_ids(ctx: Context, job_id: int) -> list[int]:
    """All tasks of a job, the oldest first."""
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Task.id).where(Task.job_id == job_id).order_by(Task.id)))


def business_names(session: Session, lists: Iterable[Iterable[int]]) -> dict[int, str]:
    """What the businesses in these lists are called."""
    wanted = {business for ids in lists for business in ids}
    query = select(Business.id, Business.name).where(Business.id.in_(wanted))
    return dict(session.execute(query).all()) if wanted else {}


def _job_views(session: Session, jobs: Sequence[Job]) -> tuple[JobView, ...]:
    names = business_names(session, (job.business_ids for job in jobs))
    return tuple(_job_view(job, names) for job in jobs)


def _job_view(job: Job, names: Mapping[int, str]) -> JobView:
    counts = {status: int(job.counts.get(status.value, 0)) for status in Status}
    return JobView(
        id=job.id,
        subscription_id=job.subscription_id,
        job_type=job.job_type,
        status=job.status,
        created_by=job.created_by,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        business_ids=tuple(job.business_ids),
        business_names=tuple(names.get(b, str(b)) for b in job.business_ids),
        counts=counts,
        filtered=tuple(FilteredHost(**host) for host in job.filtered),
        last_seq=job.last_seq,
    )


def _filter_jobs(session: Session, query: Select[Job], wanted: JobFilter) -> Select[Job]:
    names = _job_type_names(wanted)
    for column, values in (
        (Job.id, wanted.job_ids),
        (Job.status, wanted.statuses),
        (Job.created_by, wanted.created_by),
        (Job.job_type, names),
    ):
        if values is not None:
            query = query.where(column.in_(values))
    if wanted.since:
        query = query.where(Job.created_at >= wanted.since)
    if wanted.until:
        query = query.where(Job.created_at <= wanted.until)
    if wanted.addresses is not None:
        query = query.where(Job.id.in_(_jobs_at(wanted.addresses)))
    if (ids := wanted.business_ids) is not None:
        query = query.where(names_business(session, lambda business: business.in_(ids)))
    if (seen := wanted.visible) is not None:
        query = query.where(~names_business(session, lambda business: business.not_in(seen)))
    return query


def _job_type_names(wanted: JobFilter) -> frozenset[str] | None:
    """The job types that node kind and operation leave, or None when nothing narrows them."""
    if wanted.job_types is wanted.node_kinds is wanted.operations is None:
        return None
    return frozenset(
        name
        for name, job_type in CATALOGUE.items()
        if (wanted.job_types is None or name in wanted.job_types)
        and (wanted.node_kinds is None or job_type.node.value in wanted.node_kinds)
        and (wanted.operations is None or job_type.operation in wanted.operations)
    )


def _jobs_at(addresses: Iterable[str]) -> Select[int]:
    return select(Target.job_id).where(Target.host_id.in_(hosts_at(addresses)))


def names_business(
    session: Session, matches: Callable[[ColumnElement[int]], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """Whether some business of the job, which are a JSON list in its row, matches."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    unpack = func.json_array_elements_text if is_postgresql else func.json_each
    rows = unpack(Job.business_ids).table_valued("value")
    return (
        select(1)
        .select_from(rows)
        .where(matches(cast(rows.c.value, BigInteger)))
        .correlate(Job)
        .exists()
    )


def _sort_jobs(query: Select[Job], wanted: JobFilter) -> Select[Job]:
    if not wanted.sort_by:
        return query.order_by(Job.id.desc())
    names = list(Status) if wanted.sort_by == "total" else [Status(wanted.sort_by)]
    counts = [func.coalesce(Job.counts[name.value].as_integer(), 0) for name in names]
    count: ColumnElement[int] = reduce(add, counts)
    return query.order_by(count.asc() if wanted.ascending else count.desc(), Job.id.desc())


def window(query: Select[Any], skip: int, take: int | None) -> Select[Any]:
    """Some of the rows; None takes all that follow."""
    query = query.offset(skip) if skip else query
    return query if take is None else query.limit(take)


def hosts_at(addresses: Iterable[str]) -> Select[int]:
    """Ids of the hosts that have one of these addresses."""
    texts = sorted(addresses)
    return select(Host.id).where(or_(Host.inner_ip.in_(texts), Host.inner_ipv6.in_(texts)))
