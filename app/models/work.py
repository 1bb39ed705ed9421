"""What is being done: subscriptions, jobs, tasks, targets, subtasks, parts, runs and steps."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    and_,
    exists,
    not_,
    or_,
)
from sqlalchemy.orm import Mapped, aliased, mapped_column, object_session

from app.domain.states import (
    Cause,
    Direction,
    JobStatus,
    Operation,
    RunStatus,
    Status,
    SubtaskStatus,
    TaskStatus,
    Undo,
    check_transition,
)
from app.models.base import Base, now
from app.models.words import Word

TOUCHED = "touched targets"  # in the session: (task id, target id) of parts that changed
TAKEN_BACK = "taken back: what was on the host before is there again"


class Subscription(Base):
    """These stages on that scope; every job owns one."""

    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), default="")
    stages: Mapped[list[Any]]  # [{id, type, job_type, package_name, package_version, …}]
    is_deleted: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Job(Base):
    """One request a person made, and the growing list of its tasks."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_status", "status", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscription.id"), unique=True)
    job_type: Mapped[str] = mapped_column(String(48))
    business_ids: Mapped[list[Any]] = mapped_column(default=list)
    created_by: Mapped[str] = mapped_column(String(64))
    on_busy: Mapped[str] = mapped_column(String(8), default="wait")
    status: Mapped[JobStatus] = mapped_column(Word(JobStatus), default=JobStatus.PENDING)
    is_stopping: Mapped[bool] = mapped_column(default=False)  # revoked, not yet all settled
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)  # Status → targets
    filtered: Mapped[list[Any]] = mapped_column(default=list)
    last_seq: Mapped[int] = mapped_column(default=0)  # of its events
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class IdempotentAnswer(Base):
    """What an Idempotency-Key was answered with."""

    __tablename__ = "idempotent_answer"

    owner: Mapped[str] = mapped_column(String(128), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Task(Base):
    """One execution of a subscription: a graph of subtasks."""

    __tablename__ = "task"
    __table_args__ = (
        Index("ix_task_status", "status", "id"),
        Index("ix_task_job", "job_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    subscription_id: Mapped[int]
    name: Mapped[str] = mapped_column(String(128))
    version: Mapped[int] = mapped_column(default=0)  # settles of one task serialise on it
    status: Mapped[TaskStatus] = mapped_column(Word(TaskStatus), default=TaskStatus.RUNNING)
    operation: Mapped[Operation] = mapped_column(Word(Operation), default=Operation.EXECUTE)
    direction: Mapped[Direction] = mapped_column(Word(Direction), default=Direction.FORWARD)
    actions: Mapped[dict[str, Any]] = mapped_column(default=dict)  # stage id → job type
    rollout: Mapped[dict[str, Any] | None]  # None: every host at once
    waves: Mapped[list[Any]] = mapped_column(default=list)  # hosts in each
    open_wave: Mapped[int] = mapped_column(default=0)  # targets of later waves are not ready
    next_wave_at: Mapped[datetime | None]  # while it soaks
    waits_for_person: Mapped[bool] = mapped_column(default=False)
    is_aborted: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Target(Base):
    """One host in a task; only the newest of a job's targets for a host is current."""

    __tablename__ = "target"
    __table_args__ = (
        UniqueConstraint("task_id", "instance_id"),
        Index("ix_target_current", "job_id", "is_current", "status", "id"),
        Index("ix_target_instance", "job_id", "instance_id"),
        Index("ix_target_host", "host_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    job_id: Mapped[int]
    host_id: Mapped[int]
    instance_id: Mapped[str] = mapped_column(String(128))
    is_current: Mapped[bool] = mapped_column(default=True)
    wave: Mapped[int] = mapped_column(default=0)
    status: Mapped[Status] = mapped_column(Word(Status), default=Status.PENDING)
    snapshot: Mapped[dict[str, Any]] = mapped_column(default=dict)  # the host as it was; no secrets
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)  # the job type's variables
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Subtask(Base):
    """A standing set of parts of one stage and job type; a run takes those that are ready."""

    __tablename__ = "subtask"
    __table_args__ = (UniqueConstraint("task_id", "series"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    job_id: Mapped[int]
    series: Mapped[int]  # creation order inside the task, from 0
    stage: Mapped[int]
    slice: Mapped[int]
    wave: Mapped[int] = mapped_column(default=0)
    job_type: Mapped[str] = mapped_column(String(48))
    name: Mapped[str] = mapped_column(String(128))
    status: Mapped[SubtaskStatus] = mapped_column(
        Word(SubtaskStatus), default=SubtaskStatus.PENDING
    )
    operation: Mapped[Operation] = mapped_column(Word(Operation), default=Operation.EXECUTE)
    direction: Mapped[Direction] = mapped_column(Word(Direction), default=Direction.FORWARD)
    attempt: Mapped[int] = mapped_column(default=1)  # OCP: runTime, 1 while nothing ran yet
    live_run_id: Mapped[int | None]
    executor: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Edge(Base):
    """This subtask waits for that one."""

    __tablename__ = "edge"

    upstream_id: Mapped[int] = mapped_column(ForeignKey("subtask.id"), primary_key=True)
    downstream_id: Mapped[int] = mapped_column(
        ForeignKey("subtask.id"), primary_key=True, index=True
    )
    task_id: Mapped[int] = mapped_column(index=True)


class Part(Base):
    """One target in one stage: where it stands, why, and what was on the host before."""

    __tablename__ = "part"
    __table_args__ = (
        UniqueConstraint("target_id", "stage"),
        Index("ix_part_subtask", "subtask_id", "status"),
        Index("ix_part_host", "host_id", "status"),
        Index("ix_part_task", "task_id", "status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"))
    task_id: Mapped[int]
    job_id: Mapped[int]
    host_id: Mapped[int]
    subtask_id: Mapped[int] = mapped_column(ForeignKey("subtask.id"))
    stage: Mapped[int]
    job_type: Mapped[str] = mapped_column(String(48))
    status: Mapped[Status] = mapped_column(Word(Status), default=Status.PENDING)
    cause: Mapped[Cause | None] = mapped_column(Word(Cause))
    reason: Mapped[str] = mapped_column(Text, default="")
    undo: Mapped[Undo | None] = mapped_column(Word(Undo))  # only in a task that goes back
    run_id: Mapped[int | None]  # the run that last took it, and proved it if it is proven
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    has_started: Mapped[bool] = mapped_column(
        default=False
    )  # a host saw this attempt, or may still hold traces of another
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    def move_to(
        self,
        status: Status,
        reason: str = "",
        *,
        cause: Cause | None = None,
        at: datetime | None = None,
    ) -> None:
        """Become that status, for that reason; the one writer of a part's status."""
        check_transition(self.status, status)
        self.touch()
        at = at or now()
        self.status, self.reason, self.cause = status, reason, cause
        if status is Status.PENDING:
            self.started_at = self.finished_at = None
            self.has_started, self.undo = False, None
        if status is Status.FAILED and self.undo is Undo.DUE:
            self.undo = Undo.FAILED
        if status is Status.RUNNING:
            self.started_at, self.finished_at = self.started_at or at, None
        if status.is_final:
            self.finished_at = at

    def touch(self) -> None:
        """Remember in the session that what is derived from this part must be derived again."""
        if session := object_session(self):
            session.info.setdefault(TOUCHED, set()).add((self.task_id, self.target_id))

    def owe(self) -> None:
        """What this part did is to be taken back."""
        self.touch()
        self.undo = Undo.DUE

    def fail(self, reason: str, cause: Cause | None, at: datetime | None = None) -> None:
        """It did not work; a part that had failed before has now failed for this reason."""
        if self.status is Status.FAILED:
            self.touch()
            self.reason, self.cause, self.finished_at = reason, cause, at or now()
            self.undo = Undo.FAILED if self.undo is Undo.DUE else self.undo
        else:
            self.move_to(Status.FAILED, reason, cause=cause, at=at)

    def is_open(self, direction: Direction) -> bool:
        """Whether a run in this direction still has something to do for it."""
        if direction is Direction.BACK:
            return self.undo is Undo.DUE
        return self.status in (Status.PENDING, Status.RUNNING)

    def prove(self, reason: str = "", at: datetime | None = None) -> None:
        """The run did what was asked: the part is OK, or in a task that goes back, taken back."""
        if self.undo is None:
            self.move_to(Status.SUCCESS, reason, at=at)
        else:
            self.move_to(Status.PENDING, TAKEN_BACK, cause=Cause.ROLLED_BACK, at=at)

    @property
    def change(self) -> dict[str, Any]:
        """This part's state as an event of its job."""
        return {
            "part_id": self.id,
            "stage": self.stage,
            "status": self.status.value,
            "cause": self.cause.value if self.cause else None,
            "reason": self.reason,
        }


class Run(Base):
    """One attempt at a subtask over the parts that were ready."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("subtask_id", "attempt"),
        Index("ix_run_status", "status", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subtask_id: Mapped[int] = mapped_column(ForeignKey("subtask.id"))
    task_id: Mapped[int]
    job_id: Mapped[int] = mapped_column(index=True)
    attempt: Mapped[int]
    operation: Mapped[Operation] = mapped_column(Word(Operation), default=Operation.EXECUTE)
    direction: Mapped[Direction] = mapped_column(Word(Direction), default=Direction.FORWARD)
    status: Mapped[RunStatus] = mapped_column(Word(RunStatus), default=RunStatus.READY)
    fence: Mapped[int] = mapped_column(default=0)  # grows with every claim; hosts refuse older
    owner: Mapped[str] = mapped_column(String(64), default="")  # of the lease
    beat: Mapped[int] = mapped_column(default=0)  # renewed by counting
    outcome: Mapped[str] = mapped_column(String(16), default="")
    message: Mapped[str] = mapped_column(Text, default="")
    log_size: Mapped[int] = mapped_column(default=0)
    log_blob: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # once settled
    stop_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunPart(Base):
    """This run took that part."""

    __tablename__ = "run_part"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    part_id: Mapped[int] = mapped_column(ForeignKey("part.id"), primary_key=True, index=True)
    host_id: Mapped[int]
    stop_requested: Mapped[bool] = mapped_column(default=False)


class StepRow(Base):
    """A phase of a part that has begun; absent means pending."""

    __tablename__ = "step"

    part_id: Mapped[int] = mapped_column(ForeignKey("part.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(32))
    status: Mapped[Status] = mapped_column(Word(Status))
    changed: Mapped[bool] = mapped_column(default=False)
    log: Mapped[str] = mapped_column(Text, default="")
    run_id: Mapped[int]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class EventRow(Base):
    """One thing that happened in a job; its numbers have no gaps."""

    __tablename__ = "event"

    job_id: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(24))
    host_id: Mapped[int | None]
    run_id: Mapped[int | None]
    at: Mapped[datetime] = mapped_column(default=now)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)


class LogChunk(Base):
    """A piece of a run's log; an attempt's log is their concatenation."""

    __tablename__ = "log_chunk"

    run_id: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    host_id: Mapped[int | None]
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ReportToken(Base):
    """Lets a host report on one part that a person runs by hand."""

    __tablename__ = "report_token"

    part_id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), index=True)
    due_at: Mapped[datetime] = mapped_column(index=True)


class Lease(Base):
    """Who does a thing that only one may do, renewed by counting."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default="")
    beat: Mapped[int] = mapped_column(default=0)


class Duty(Base):
    """A periodic duty of the keeper, and when it is due."""

    __tablename__ = "duty"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    due_at: Mapped[datetime]


def is_unfinished() -> ColumnElement[bool]:
    """In a query that joins Task: parts that run, or wait for something that is alive.

    What an aborted task left undone waits for nobody. Nor does what is still to be taken back on a
    host where something later could not be: first a person must try that again.
    """
    later = aliased(Part)
    is_stuck = exists().where(later.target_id == Part.target_id, later.undo == Undo.FAILED)
    waits = or_(
        and_(Task.direction == Direction.FORWARD, Part.status == Status.PENDING),
        and_(Part.undo == Undo.DUE, not_(is_stuck)),
    )
    return or_(Part.status == Status.RUNNING, and_(not_(Task.is_aborted), waits))


def instance_id_of(host_id: int | None, address: str, zone_id: int) -> str:
    """How the wire names a target (contracts/nodeman.md §3.1)."""
    if host_id is not None:
        return f"host|instance|host|{host_id}"
    return f"host|instance|host|{address}-{zone_id}-0"


def count_statuses(statuses: Iterable[Status]) -> dict[str, int]:
    """How many of each, with every status listed."""
    counts = {status.value: 0 for status in Status}
    for status in statuses:
        counts[status.value] += 1
    return counts
