"""What the pages show of a job: words and times ready to print."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain.catalogue import CATALOGUE
from app.domain.commands import FilteredHost
from app.domain.states import JobStatus, Status
from app.jobs.views import JobView, StepView, TargetView
from app.models.base import now
from app.models.fleet import label_of


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job as a heading or a row."""

    id: int
    title: str
    status: JobStatus
    created_by: str
    created_at: datetime
    took: str
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        return self.total - self.counts["pending"] - self.counts["running"]

    @property
    def is_final(self) -> bool:
        return self.status.is_final

    @property
    def can_retry(self) -> bool:
        return self.counts["failed"] > 0

    @property
    def can_stop(self) -> bool:
        return self.counts["pending"] + self.counts["running"] > 0


@dataclass(frozen=True, kw_only=True)
class HostRow:
    """A host of a job as a row."""

    label: str
    status: Status
    instance_id: str = ""
    step: str = ""
    cause: str = ""
    reason: str = ""
    started_at: datetime | None = None
    took: str = ""

    @property
    def is_final(self) -> bool:
        return self.status.is_final

    @property
    def can_retry(self) -> bool:
        return self.status is Status.FAILED

    @property
    def can_stop(self) -> bool:
        return not self.status.is_final


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A phase on one host."""

    title: str
    status: Status
    log: str
    started_at: datetime | None
    took: str


def job_row(job: JobView, language: str) -> JobRow:
    """A job as the pages show it."""
    counts = {status.value: count for status, count in job.counts.items()}
    return JobRow(
        id=job.id,
        title=job_title(job.job_type, language),
        status=job.status,
        created_by=job.created_by,
        created_at=job.created_at,
        took=took(job.started_at, job.finished_at),
        counts=counts,
    )


def host_row(target: TargetView, language: str) -> HostRow:
    """One host of a job as the pages show it, with the step it is at."""
    part = target.current_part
    step = part.current_step if part else None
    return HostRow(
        label=target.address,
        instance_id=target.instance_id,
        status=target.status,
        step=step.title.in_language(language)
        if step and target.status is not Status.SUCCESS
        else "",
        cause=part.cause.value if part and part.cause else "",
        reason=part.reason if part else "",
        started_at=target.started_at,
        took=took(target.started_at, target.finished_at),
    )


def filtered_row(host: FilteredHost) -> HostRow:
    """A host that was left out when the job was submitted."""
    label = label_of(host.host_id, host.inner_ip, host.inner_ipv6)
    return HostRow(label=label, status=Status.IGNORED, reason=host.reason)


def step_rows(target: TargetView, language: str) -> Iterator[StepRow]:
    """The steps of a host, over all its stages, in order."""
    for part in target.parts:
        for step in part.steps:
            yield _step_row(step, language)


def _step_row(step: StepView, language: str) -> StepRow:
    return StepRow(
        title=step.title.in_language(language),
        status=step.status,
        log=step.log,
        started_at=step.started_at,
        took=took(step.started_at, step.finished_at),
    )


def job_title(name: str, language: str) -> str:
    """A job type's name for people; one we no longer have keeps its own."""
    return CATALOGUE[name].title.in_language(language) if name in CATALOGUE else name


def moment(at: datetime | None) -> str:
    """A time as people read it; the zone is said, for readers are anywhere."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else ""


def clock(at: datetime | None) -> str:
    """The time of day alone, where the day is said elsewhere."""
    return at.astimezone(UTC).strftime("%H:%M:%S") if at else ""


def took(start: datetime | None, end: datetime | None) -> str:
    """How long it took, or has taken until now."""
    if start is None:
        return ""
    seconds = max(0, int(((end or now()) - start).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
