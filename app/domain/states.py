"""Which states there are, how they follow each other, and how the larger derive from the small."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from app.domain.errors import Conflict


class Status(StrEnum):
    """Where a part or a step stands."""

    PENDING = "pending"  # waits: for upstream, a lock, a worker, a timer or a person
    RUNNING = "running"  # a run has it
    SUCCESS = "success"  # proven OK
    FAILED = "failed"  # did not work; the cause says why
    IGNORED = "ignored"  # filtered, or skipped by a person

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({Status.SUCCESS, Status.FAILED, Status.IGNORED})


class Cause(StrEnum):
    """Why something failed, so that people, filters and retry policies can tell."""

    UNREACHABLE = "unreachable"  # no answer from the address
    REFUSED = "refused"  # the host answers, nothing listens on the port
    CONNECTION_LOST = "connection_lost"  # it worked, then the connection broke
    AUTH = "auth"  # the login was not accepted
    PRIVILEGE = "privilege"  # logged in, but may not become root
    NO_PYTHON = "no_python"  # nothing there to run our module with
    DISK_FULL = "disk_full"
    PACKAGE_UNREACHABLE = "package_unreachable"  # the host cannot fetch the package
    CHECKSUM = "checksum"  # the fetched bytes are not the package's
    NO_PACKAGE = "no_package"  # no package fits this host
    AGENT_EXITED = "agent_exited"  # started, and exited at once
    AGENT_NOT_READY = "agent_not_ready"  # runs, but never became ready
    TOO_MUCH_OUTPUT = "too_much_output"  # it printed without end and was cut off
    TASK_FAILED = "task_failed"  # any other failing task
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"  # stopped, and proved stopped
    LOST = "lost"  # nobody knows: the run or the host was lost
    NOT_STARTED = "not_started"  # never reached
    FILTERED = "filtered"  # refused at submit
    UPSTREAM = "upstream"  # an earlier stage failed on this host
    ROLLED_BACK = "rolled_back"  # what was done has been taken back


TRANSITIONS = frozenset(
    {
        (Status.PENDING, Status.RUNNING),  # the first event arrived
        (Status.PENDING, Status.SUCCESS),  # record jobs: true as soon as written
        (Status.PENDING, Status.IGNORED),  # skipped by a person, or filtered
        (Status.PENDING, Status.FAILED),  # never reached, lost or stopped: the cause says which
        (Status.RUNNING, Status.SUCCESS),  # proven OK
        (Status.RUNNING, Status.FAILED),  # proven not OK, lost or stopped
        (Status.FAILED, Status.RUNNING),  # a rescue block recovered it
        (Status.FAILED, Status.SUCCESS),  # the closing verdict knows better than a single event
        (Status.FAILED, Status.PENDING),  # retry
        (Status.FAILED, Status.IGNORED),  # skip
        (Status.SUCCESS, Status.RUNNING),  # taking it back began
        (Status.SUCCESS, Status.FAILED),  # taking it back did not work
        (Status.IGNORED, Status.RUNNING),  # the same, for what a person had skipped
        (Status.IGNORED, Status.FAILED),
        (Status.RUNNING, Status.PENDING),  # taken back
        (Status.SUCCESS, Status.PENDING),  # taken back, and nothing had to be done for it
        (Status.IGNORED, Status.PENDING),
    }
)


def check_transition(old: Status, new: Status) -> None:
    """Refuse a change of state that has no meaning."""
    if (old, new) not in TRANSITIONS:
        raise Conflict(f"{old} cannot become {new}.", old=old, new=new)


class SubtaskStatus(StrEnum):
    """Where a subtask stands (contracts/ocp-tasks.md §1.7)."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    CANCELING = "canceling"
    FAILED = "failed"
    SUCCESSFUL = "successful"


class TaskStatus(StrEnum):
    """Where a task stands."""

    RUNNING = "running"
    FAILED = "failed"
    SUCCESSFUL = "successful"


class JobStatus(StrEnum):
    """Where a job stands (contracts/nodeman.md §3.2)."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    PART_FAILED = "part_failed"
    TERMINATED = "terminated"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.PART_FAILED)


class Operation(StrEnum):
    """What was last asked of a subtask or task."""

    EXECUTE = "execute"
    RETRY = "retry"
    SKIP = "skip"
    ROLLBACK = "rollback"
    CANCEL = "cancel"


class Undo(StrEnum):
    """How far taking a part back has come; a part that is back is pending and has none."""

    DUE = "due"  # what it did is still on the host
    FAILED = "failed"  # tried, and it did not work


class Direction(StrEnum):
    """Whether a task builds up or takes back; a cancel never changes it."""

    FORWARD = "forward"
    BACK = "back"


class RunStatus(StrEnum):
    """How far one attempt has come; a run that ended has an outcome as well."""

    READY = "ready"  # waits for a worker
    RUNNING = "running"  # a worker holds its lease
    CANCELING = "canceling"  # asked to stop, not yet proved stopped
    ENDED = "ended"


LIVE_RUN = {
    RunStatus.READY: SubtaskStatus.READY,
    RunStatus.RUNNING: SubtaskStatus.RUNNING,
    RunStatus.CANCELING: SubtaskStatus.CANCELING,
}


def fold_target_back(parts: Iterable[tuple[Status, Undo | None]]) -> Status:
    """What the parts say of a target whose task goes back.

    When all of it is back, what was asked for is not there: the target has failed.
    """
    parts = tuple(parts)
    if any(status is Status.RUNNING for status, _ in parts):
        return Status.RUNNING
    undos = {undo for _, undo in parts}
    return Status.RUNNING if Undo.DUE in undos and Undo.FAILED not in undos else Status.FAILED


def fold_target(parts: Iterable[Status]) -> Status:
    """What a target's parts, in any order, say of the target (contracts/nodeman.md §3.2)."""
    statuses = Counter(parts)
    if statuses[Status.FAILED]:
        return Status.FAILED
    if statuses[Status.RUNNING]:
        return Status.RUNNING
    if statuses[Status.PENDING]:
        started = statuses[Status.SUCCESS]
        return Status.RUNNING if started else Status.PENDING
    return Status.SUCCESS if statuses[Status.SUCCESS] else Status.IGNORED


def fold_subtask(
    parts: Iterable[tuple[Status, Cause | None]],
    run: RunStatus | None,
    direction: Direction = Direction.FORWARD,
) -> SubtaskStatus:
    """What its parts and its live run, if any, say of a subtask."""
    if run in LIVE_RUN:
        return LIVE_RUN[run]
    waiting, failed = False, False
    for status, cause in parts:
        if status is Status.RUNNING:
            return SubtaskStatus.RUNNING  # without a run: a person does it
        if status is Status.FAILED and cause is not Cause.UPSTREAM:
            failed = True
        elif status in (Status.PENDING, Status.FAILED):
            waiting = True
    if failed:
        return SubtaskStatus.FAILED
    return SubtaskStatus.PENDING if waiting else SubtaskStatus.SUCCESSFUL


def fold_task(
    subtasks: Iterable[SubtaskStatus], waits: bool, direction: Direction = Direction.FORWARD
) -> TaskStatus:
    """What the subtasks say of a task; `waits`: some part waits for something alive."""
    statuses = set(subtasks)
    if waits or statuses & {SubtaskStatus.READY, SubtaskStatus.RUNNING, SubtaskStatus.CANCELING}:
        return TaskStatus.RUNNING
    if SubtaskStatus.FAILED in statuses:
        return TaskStatus.FAILED
    if direction is Direction.BACK:
        return TaskStatus.SUCCESSFUL if statuses <= {SubtaskStatus.PENDING} else TaskStatus.FAILED
    return TaskStatus.FAILED if SubtaskStatus.PENDING in statuses else TaskStatus.SUCCESSFUL


def fold_job(counts: Counter[Status]) -> JobStatus:
    """What the current targets, filtered ones counted as ignored, say of a job."""
    total = sum(counts.values())
    if not total:
        return JobStatus.PENDING
    wanted = total - counts[Status.IGNORED]
    if counts[Status.RUNNING] or (counts[Status.PENDING] and counts[Status.PENDING] < wanted):
        return JobStatus.RUNNING
    if counts[Status.PENDING]:
        return JobStatus.PENDING
    if not counts[Status.FAILED]:
        return JobStatus.SUCCESS
    return JobStatus.PART_FAILED if counts[Status.SUCCESS] else JobStatus.FAILED
