"""What people look at: jobs, their targets, parts and steps, and which of them they want."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.domain.catalogue import Title
from app.domain.commands import FilteredHost
from app.domain.states import Cause, JobStatus, Status


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
    business_names: tuple[str, ...]
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
    task_ids: frozenset[int] | None = None  # the newest of each instance in these, current or not
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
