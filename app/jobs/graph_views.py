"""What people look at in a graph: tasks, subtasks, attempts and hosts, and which they want."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.catalogue import CATALOGUE
from app.domain.graph import Graph
from app.domain.states import (
    Cause,
    Direction,
    Operation,
    RunStatus,
    Status,
    SubtaskStatus,
    TaskStatus,
)


@dataclass(frozen=True, kw_only=True)
class AttemptView:
    """One run of a subtask."""

    run_id: int
    number: int
    operation: Operation
    direction: Direction
    status: RunStatus
    outcome: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    log_size: int


@dataclass(frozen=True, kw_only=True)
class SubtaskView:
    """One node of a task's graph."""

    id: int
    task_id: int
    series: int
    stage: int
    slice: int  # -1 when its stage is not cut
    wave: int
    job_type: str
    name: str
    status: SubtaskStatus
    operation: Operation
    direction: Direction
    attempt: int
    executor: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    upstreams: tuple[int, ...] = ()
    downstreams: tuple[int, ...] = ()
    hosts: Mapping[Status, int] = field(default_factory=dict)
    causes: Mapping[Cause, int] = field(default_factory=dict)
    attempts: tuple[AttemptView, ...] = ()
    retryable: int = 0  # failed hosts that no newer task has
    has_begun: bool = False  # only told of those that cannot be taken back

    @property
    def timeout(self) -> int:
        """Seconds one attempt may take, a person's attempt too."""
        known = CATALOGUE.get(self.job_type)
        return int(known.attempt_timeout.total_seconds()) if known else 0

    @property
    def prohibits_rollback(self) -> bool:
        """Whether what it does cannot be taken back."""
        return prohibits_rollback(self.job_type)


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task; its subtasks are in creation order."""

    id: int
    job_id: int
    subscription_id: int
    name: str
    status: TaskStatus
    operation: Operation
    direction: Direction
    businesses: tuple[tuple[int, str], ...]  # id and name
    created_by: str
    creator_id: int | None  # when a person made it
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    is_aborted: bool
    waves: tuple[int, ...]  # hosts in each; empty: no rollout
    open_wave: int
    next_wave_at: datetime | None
    waits_for_person: bool
    stops: str = ""  # why no further wave of a rollout begins
    newer_task_id: int | None = None  # of the same job: it may hold some of the hosts
    holds_hosts: bool = True  # some host has not gone over to a newer task
    subtasks: tuple[SubtaskView, ...] = ()

    @property
    def business_ids(self) -> tuple[int, ...]:
        return tuple(business_id for business_id, _ in self.businesses)

    @property
    def prohibits_rollback(self) -> bool:
        """Whether something that has begun cannot be taken back; asked anew on every look."""
        return any(s.has_begun and s.prohibits_rollback for s in self.subtasks)

    @property
    def executor(self) -> str | None:
        """Who took its newest run."""
        ran = [subtask for subtask in self.subtasks if subtask.executor and subtask.started_at]
        return max(ran, key=lambda s: (s.started_at, s.id)).executor if ran else None

    def in_order(self) -> tuple[SubtaskView, ...]:
        """Every subtask after all its upstreams."""
        by_id = {subtask.id: subtask for subtask in self.subtasks}
        edges = tuple((up, s.id) for s in self.subtasks for up in s.upstreams)
        return tuple(by_id[node] for node in Graph(tuple(by_id), edges).in_order())


@dataclass(frozen=True, kw_only=True)
class HostView:
    """One host in a subtask that is not proven OK, and why."""

    host_id: int
    label: str
    status: Status
    cause: Cause | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class TaskFilter:
    """Which tasks; None means any. `visible` is what the reader may see."""

    name: str | None = None  # a part of it, in any case
    statuses: frozenset[TaskStatus] | None = None
    business_id: int | None = None
    business_name: str | None = None
    host_id: int | None = None
    nothing: bool = False  # a filter that no task of ours can fit
    visible: frozenset[int] | None = None
    sort: tuple[tuple[str, bool], ...] = (("id", False),)  # name of a column, ascending
    skip: int = 0
    take: int = 10


def prohibits_rollback(job_type: str) -> bool:
    """Whether what this kind of work does cannot be taken back; one we no longer have cannot."""
    return job_type not in CATALOGUE or CATALOGUE[job_type].prohibits_rollback
