"""Read jobs, their targets, steps and logs; nothing here writes, and no wire word appears."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from itertools import islice
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, case, cast, func, or_, select
from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE, Step, Title
from app.domain.commands import FilteredHost
from app.domain.errors import HostNotFound, JobNotFound, SubscriptionNotFound, TaskNotFound
from app.domain.states import Cause, JobStatus, Status
from app.jobs.context import Context
from app.models.base import reading
from app.models.fleet import Business, Host, Zone
from app.models.work import Job, Part, StepRow, Subscription, Target, Task

CHUNK = 5000  # values in one IN list
MAX_DIGITS = 19  # of an id that a database can hold


@dataclass(frozen=True, kw_only=True)
class JobView:
    """One job, as people look at it."""

    id: int
    subscription_id: int
    job_type: str
    status: JobStatus
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    business_ids: tuple[int, ...]
    counts: Mapping[Status, int]
    filtered: tuple[FilteredHost, ...]
    last_seq: int

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class StepView:
    """One phase of a part; `log` is empty where nobody asked for it."""

    index: int
    key: str
    title: Title
    status: Status
    log: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class PartView:
    """One target in one stage, with its steps in order."""

    id: int
    stage: int
    stage_id: str
    job_type: str
    status: Status
    cause: Cause | None
    reason: str
    run_id: int | None
    started_at: datetime | None
    finished_at: datetime | None
    steps: tuple[StepView, ...] = ()

    @property
    def current_step(self) -> StepView | None:
        """The step to show for the whole part: the failing or running one, else the last done."""
        for wanted in (Status.FAILED, Status.RUNNING):
            if found := next((step for step in self.steps if step.status is wanted), None):
                return found
        done = [step for step in self.steps if step.status is Status.SUCCESS]
        return done[-1] if done else None


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """One host in a task, with where it stands and why."""

    id: int
    task_id: int
    job_id: int
    instance_id: str
    host_id: int
    status: Status
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inner_ip: str
    inner_ipv6: str
    zone_id: int
    zone_name: str
    business_id: int
    business_name: str
    hostname: str
    os_type: str
    access_point_id: int | None
    is_manual: bool
    parts: tuple[PartView, ...] = ()

    @property
    def address(self) -> str:
        return self.inner_ip or self.inner_ipv6

    @property
    def current_part(self) -> PartView | None:
        """The stage to show: the first that is not proven OK, else the last."""
        unproven = (part for part in self.parts if part.status is not Status.SUCCESS)
        return next(unproven, self.parts[-1] if self.parts else None)


@dataclass(frozen=True)
class Page:
    """Some of the rows that were asked for, and how many there are."""

    rows: tuple[Any, ...]
    total: int


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs; None means any. `visible` is what the reader may see."""

    job_ids: frozenset[int] | None = None
    statuses: frozenset[JobStatus] | None = None
    created_by: frozenset[str] | None = None
    business_ids: frozenset[int] | None = None
    visible: frozenset[int] | None = None
    addresses: frozenset[str] | None = None
    job_types: frozenset[str] | None = None
    node_kinds: frozenset[str] | None = None
    operations: frozenset[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    sort_by: str = ""  # a status, or "total"; empty: the newest first
    ascending: bool = False
    skip: int = 0
    take: int | None = 10


@dataclass(frozen=True, kw_only=True)
class TargetFilter:
    """Which targets of a job; None means any."""

    statuses: frozenset[Status] | None = None
    instance_ids: frozenset[str] | None = None
    excluded_ids: frozenset[str] | None = None
    addresses: frozenset[str] | None = None
    task_ids: frozenset[int] | None = None  # these tasks, current or not
    failed_first: bool = True
    skip: int = 0
    take: int | None = 10

    def admits_filtered(self, host: FilteredHost) -> bool:
        """Whether a host that was left out at submit, and so is no target, fits this filter."""
        at = {address for address in (host.inner_ip, host.inner_ipv6) if address}
        return (
            self.instance_ids is None
            and (self.statuses is None or Status.IGNORED in self.statuses)
            and (self.addresses is None or bool(at & self.addresses))
        )


# --- Jobs ---------------------------------------------------------------------------------------


def find_jobs(ctx: Context, wanted: JobFilter) -> Page:
    """Jobs, the newest first."""
    with reading(ctx.engine) as session:
        query = _filter_jobs(session, select(Job), wanted)
        total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
        rows = session.scalars(_window(_sort_jobs(query, wanted), wanted.skip, wanted.take))
        return Page(tuple(_job_view(row) for row in rows), total)


def get_job(ctx: Context, job_id: int) -> JobView:
    """That job, or JobNotFound."""
    with reading(ctx.engine) as session:
        job = session.get(Job, job_id)
        if job is None:
            raise JobNotFound(f"There is no job {job_id}.", job_id=job_id)
        return _job_view(job)


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
        return _job_view(job)


def get_task_ids(ctx: Context, job_id: int) -> list[int]:
    """All tasks of a job, the oldest first."""
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Task.id).where(Task.job_id == job_id).order_by(Task.id)))


def _job_view(job: Job) -> JobView:
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
        query = query.where(_names_business(session, lambda business: business.in_(ids)))
    if (seen := wanted.visible) is not None:
        query = query.where(~_names_business(session, lambda business: business.not_in(seen)))
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
    return select(Target.job_id).where(Target.host_id.in_(_hosts_at(addresses)))


def _hosts_at(addresses: Iterable[str]) -> Select[int]:
    texts = sorted(addresses)
    return select(Host.id).where(or_(Host.inner_ip.in_(texts), Host.inner_ipv6.in_(texts)))


def _names_business(
    session: Session, matches: Callable[[ColumnElement[int]], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """Whether some business of the job, which are a JSON list in its row, matches."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    unpack = func.json_array_elements_text if is_postgresql else func.json_each
    rows = unpack(Job.business_ids).table_valued("value")
    return select(1).select_from(rows).where(matches(cast(rows.c.value, Integer))).exists()


def _sort_jobs(query: Select[Job], wanted: JobFilter) -> Select[Job]:
    if not wanted.sort_by:
        return query.order_by(Job.id.desc())
    names = list(Status) if wanted.sort_by == "total" else [Status(wanted.sort_by)]
    counts = [func.coalesce(Job.counts[name.value].as_integer(), 0) for name in names]
    count: ColumnElement[int] = reduce(add, counts)
    return query.order_by(count.asc() if wanted.ascending else count.desc(), Job.id.desc())


def _window(query: Select[Any], skip: int, take: int | None) -> Select[Any]:
    query = query.offset(skip) if skip else query
    return query if take is None else query.limit(take)


# --- Targets ------------------------------------------------------------------------------------


def list_targets(
    ctx: Context, job: JobView, wanted: TargetFilter, *, steps: bool = True, logs: bool = False
) -> Page:
    """Targets of a job, by default the current ones with the failed first."""
    with reading(ctx.engine) as session:
        chosen = _chosen(session, job.id, wanted)
        total = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
        order = [case((Target.status == Status.FAILED, 0), else_=1)] if wanted.failed_first else []
        ids = session.scalars(
            _window(chosen.order_by(*order, Target.id), wanted.skip, wanted.take)
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
    """The newest record of one instance, with its logs; HostNotFound when the job has no such."""
    with reading(ctx.engine) as session:
        stored = _stored_ids(session, job.id, [instance_id])[instance_id]
        query = select(Target.id).where(Target.job_id == job.id, Target.instance_id == stored)
        if task_ids:
            query = query.where(Target.task_id.in_(list(task_ids)))
        target_id = session.scalar(query.order_by(Target.id.desc()).limit(1))
        if target_id is None:
            raise HostNotFound(
                f"Job {job.id} has no instance {instance_id}.", instance_id=instance_id
            )
        return next(
            _target_views(session, [target_id], _stage_ids(session, job), steps=True, logs=True)
        )


def latest_targets(ctx: Context, host_ids: Sequence[int]) -> dict[int, TargetView]:
    """What was last done on each of these hosts, in any job."""
    with reading(ctx.engine) as session:
        found: dict[int, TargetView] = {}
        for some in _chunks(host_ids):
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
        stored = _stored_ids(session, job_id, instance_ids)
    return tuple(dict.fromkeys(stored[asked] for asked in instance_ids))


def _chosen(session: Session, job_id: int, wanted: TargetFilter) -> Select[int]:
    query = select(Target.id).where(Target.job_id == job_id)
    if wanted.task_ids is None:
        query = query.where(Target.is_current)
    else:
        query = query.where(Target.task_id.in_(sorted(wanted.task_ids)))
    if wanted.statuses is not None:
        query = query.where(Target.status.in_(wanted.statuses))
    if wanted.instance_ids is not None:
        stored = _stored_ids(session, job_id, wanted.instance_ids)
        query = query.where(Target.instance_id.in_(set(stored.values())))
    if wanted.excluded_ids:
        stored = _stored_ids(session, job_id, wanted.excluded_ids)
        query = query.where(Target.instance_id.not_in(set(stored.values())))
    if wanted.addresses is not None:
        query = query.where(Target.host_id.in_(_hosts_at(wanted.addresses)))
    return query


def _stored_ids(session: Session, job_id: int, asked: Iterable[str]) -> dict[str, str]:
    """Under which name each asked instance is stored; a name that fits nothing stays as it is."""
    names = list(dict.fromkeys(asked))
    stored = {name: name for name in names}
    known = set[str]()
    for some in _chunks(names):
        query = select(Target.instance_id).where(
            Target.job_id == job_id, Target.instance_id.in_(some)
        )
        known.update(session.scalars(query))
    by_host = _hosts_meant(session, [name for name in names if name not in known])
    for some in _chunks(set(by_host.values())):
        pairs = select(Target.host_id, Target.instance_id).where(
            Target.job_id == job_id, Target.host_id.in_(some)
        )
        found = dict(session.execute(pairs).all())
        stored |= {name: found[host] for name, host in by_host.items() if host in found}
    return stored


def _hosts_meant(session: Session, names: Iterable[str]) -> dict[str, int]:
    """The host each of these names means, where it can be told."""
    meant, at = {}, {}
    for name in names:
        ident = name.rpartition("|")[2]
        address, _, zone = ident.removesuffix("-0").rpartition("-")
        if ident.isdecimal() and len(ident) < MAX_DIGITS:
            meant[name] = int(ident)
        elif ident.count("-") == 2 and zone.isdecimal() and len(zone) < MAX_DIGITS:
            at[int(zone), address] = name
    for some in _chunks({address for _, address in at}):
        query = select(Host.id, Host.zone_id, Host.inner_ip, Host.inner_ipv6).where(
            or_(Host.inner_ip.in_(some), Host.inner_ipv6.in_(some))
        )
        for host_id, zone_id, *addresses in session.execute(query):
            meant |= {at[zone_id, a]: host_id for a in addresses if a and (zone_id, a) in at}
    return meant


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
    for some in _chunks(ids):
        query = select(*TARGET_COLUMNS).where(Target.id.in_(some))
        rows = {row.id: row for row in session.execute(query)}
        parts = _part_views(session, some, stage_ids, steps=steps, logs=logs)
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


# --- Parts and steps ----------------------------------------------------------------------------


PART_COLUMNS = (
    Part.id,
    Part.target_id,
    Part.stage,
    Part.job_type,
    Part.status,
    Part.cause,
    Part.reason,
    Part.run_id,
    Part.started_at,
    Part.finished_at,
)
STEP_COLUMNS = (
    StepRow.part_id,
    StepRow.index.label("position"),  # a row has an `index` of its own
    StepRow.key,
    StepRow.status,
    StepRow.started_at,
    StepRow.finished_at,
)


def _part_views(
    session: Session,
    target_ids: Sequence[int],
    stage_ids: Mapping[int, str],
    *,
    steps: bool,
    logs: bool,
) -> dict[int, tuple[PartView, ...]]:
    """The parts of these targets, each target's in the order of the stages."""
    query = select(*PART_COLUMNS).where(Part.target_id.in_(target_ids)).order_by(Part.stage)
    parts = session.execute(query).all()
    begun = _begun_steps(session, [part.id for part in parts], logs) if steps else {}
    views: dict[int, tuple[PartView, ...]] = defaultdict(tuple)
    for part in parts:
        shown = shown_steps(part, begun.get(part.id, {})) if steps else ()
        stage_id = stage_ids.get(part.stage, str(part.stage))
        views[part.target_id] += (_part_view(part, stage_id, shown),)
    return views


def _part_view(part: Any, stage_id: str, steps: tuple[StepView, ...]) -> PartView:
    return PartView(
        id=part.id,
        stage=part.stage,
        stage_id=stage_id,
        job_type=part.job_type,
        status=part.status,
        cause=part.cause,
        reason=part.reason,
        run_id=part.run_id,
        started_at=part.started_at,
        finished_at=part.finished_at,
        steps=steps,
    )


def _begun_steps(
    session: Session, part_ids: Sequence[int], logs: bool
) -> dict[int, dict[int, Any]]:
    columns = (*STEP_COLUMNS, StepRow.log) if logs else STEP_COLUMNS
    begun: dict[int, dict[int, Any]] = defaultdict(dict)
    for some in _chunks(part_ids):
        for row in session.execute(select(*columns).where(StepRow.part_id.in_(some))):
            begun[row.part_id][row.position] = row
    return begun


def shown_steps(part: Any, begun: Mapping[int, Any]) -> tuple[StepView, ...]:
    """All steps of a part in order: those that have begun, and the others as they must be.

    A failed part has a failed step that holds its reason, also when no step ever began; steps
    before the last that began are done; a part that is proven OK has no open step.
    """
    steps = _planned_steps(part.job_type, begun)
    last = max(begun, default=-1)
    statuses = [_shown_status(part.status, i, begun.get(i), last) for i in range(len(steps))]
    reason_at = _reason_index(part, statuses)
    if part.status is Status.FAILED and reason_at is not None:
        statuses[reason_at] = Status.FAILED
    return tuple(
        _step_view(i, step, statuses[i], begun.get(i), part.reason if i == reason_at else "")
        for i, step in enumerate(steps)
    )


def _planned_steps(job_type: str, begun: Mapping[int, Any]) -> tuple[Step, ...]:
    if job_type in CATALOGUE:
        return CATALOGUE[job_type].steps
    # a job type we no longer have: what was recorded is all there is
    return tuple(Step(begun[i].key, Title(begun[i].key, begun[i].key)) for i in sorted(begun))


def _shown_status(part: Status, index: int, row: Any, last: int) -> Status:
    if row is None:
        done = index < last or part is Status.SUCCESS
        return Status.SUCCESS if done else Status.PENDING
    left_open = {Status.RUNNING} if part is Status.FAILED else {Status.RUNNING, Status.PENDING}
    return part if part.is_final and row.status in left_open else Status(row.status)


def _reason_index(part: Any, statuses: Sequence[Status]) -> int | None:
    """Where the part's reason is shown: at the failed step, else where the work stopped."""
    if not part.reason or not statuses or part.status is Status.SUCCESS:
        return None
    for wanted in ({Status.FAILED}, {Status.RUNNING, Status.PENDING}):
        found = next((i for i, status in enumerate(statuses) if status in wanted), None)
        if found is not None:
            return found
    return len(statuses) - 1


def _step_view(index: int, step: Step, status: Status, row: Any, reason: str) -> StepView:
    log = getattr(row, "log", "") or ""
    if reason and reason not in log:
        log = f"{log.rstrip()}\n{reason}".lstrip()
    return StepView(
        index=index,
        key=step.key,
        title=step.title,
        status=status,
        log=log,
        started_at=row.started_at if row else None,
        finished_at=row.finished_at if row else None,
    )


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(values)
    while some := list(islice(rest, CHUNK)):
        yield some
