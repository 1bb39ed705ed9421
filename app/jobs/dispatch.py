"""Open runs for the parts that are ready: the one act every other verb shares."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cache

from sqlalchemy import Select, and_, bindparam, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.domain.catalogue import CATALOGUE
from app.domain.states import Direction, Status, SubtaskStatus, Undo
from app.jobs.claim import waits_for
from app.jobs.rollon import roll_on
from app.models.fleet import HostLock
from app.models.rows import insert_rows
from app.models.work import Edge, Part, Run, RunPart, Subtask, Task


def open_runs(session: Session, task_ids: Iterable[int]) -> list[int]:
    """A new run for every subtask of these tasks with ready parts and no live run.

    Forward, a part is ready when its wave is open, its target's earlier part is proven OK, it is
    not, and no run holds its host; back, when it is still to be taken back and its target's later
    part is back. Returns the run ids to send once the transaction is committed.
    """
    ids = list(task_ids)
    session.flush()
    roll_on(session, ids)
    ready: dict[int, list[tuple[int, int]]] = defaultdict(list)
    held = []
    for direction in _directions(session, ids):
        for subtask_id, part_id, host_id, holder in session.execute(
            READY[direction](), {"ids": ids}
        ):
            if holder is None:
                ready[subtask_id].append((part_id, host_id))
            elif direction is Direction.FORWARD:
                held.append({"id": part_id, "reason": waits_for(holder)})
    if held:
        session.execute(update(Part), held)
    runs = []
    for subtask_id, parts in ready.items():
        subtask = session.get_one(Subtask, subtask_id)
        if not _behind_barrier(session, subtask):
            runs.append(_open_run(session, subtask, parts))
    return runs


def _directions(session: Session, task_ids: list[int]) -> list[Direction]:
    found = set(session.scalars(select(Task.direction).where(Task.id.in_(task_ids))))
    return [direction for direction in Direction if direction in found]


# subtask, part, host, and the other job that holds the host, if one does
Ready = Select[int, int, int, int | None]


@cache  # dearer to build than to execute
def _ready_forward() -> Ready:
    earlier = aliased(Part)
    return (
        _takeable(Direction.FORWARD)
        .outerjoin(
            earlier, and_(earlier.target_id == Part.target_id, earlier.stage == Part.stage - 1)
        )
        .where(
            Part.status == Status.PENDING,
            Subtask.wave <= Task.open_wave,
            or_(Part.stage == 0, earlier.status == Status.SUCCESS),
        )
    )


@cache
def _ready_back() -> Ready:
    later = aliased(Part)
    return (
        _takeable(Direction.BACK)
        .outerjoin(later, and_(later.target_id == Part.target_id, later.stage == Part.stage + 1))
        .where(Part.undo == Undo.DUE, Part.status != Status.RUNNING, later.undo.is_(None))
    )


READY = {Direction.FORWARD: _ready_forward, Direction.BACK: _ready_back}


def _takeable(direction: Direction) -> Ready:
    """Parts of some tasks that no live run has, on hosts that are free or another job's."""
    return (
        select(Part.subtask_id, Part.id, Part.host_id, HostLock.job_id)
        .join(Subtask, Subtask.id == Part.subtask_id)
        .join(Task, Task.id == Part.task_id)
        .outerjoin(HostLock, HostLock.host_id == Part.host_id)
        .where(
            Part.task_id.in_(bindparam("ids", expanding=True)),
            Part.job_type.in_(_run_by_workers()),
            Task.direction == direction,
            Task.is_aborted.is_(False),
            Subtask.live_run_id.is_(None),
            or_(HostLock.host_id.is_(None), HostLock.job_id != Part.job_id),
        )
        .order_by(Part.subtask_id, Part.id)
    )


def _run_by_workers() -> list[str]:
    return [job_type.name for job_type in CATALOGUE.values() if job_type.changes_host]


def _behind_barrier(session: Session, subtask: Subtask) -> bool:
    """Whether every slice of the stage before must end first, and one has not."""
    if not CATALOGUE[subtask.job_type].barrier:
        return False
    upstreams = select(Edge.upstream_id).where(Edge.downstream_id == subtask.id)
    unfinished = select(Part.id).where(
        Part.subtask_id.in_(upstreams), Part.status.in_([Status.PENDING, Status.RUNNING])
    )
    return session.scalar(unfinished.limit(1)) is not None


def _open_run(session: Session, subtask: Subtask, parts: list[tuple[int, int]]) -> int:
    attempt = _next_attempt(session, subtask)
    run = Run(
        subtask_id=subtask.id,
        task_id=subtask.task_id,
        job_id=subtask.job_id,
        attempt=attempt,
        operation=subtask.operation,
        direction=subtask.direction,
    )
    session.add(run)
    session.flush()
    insert_rows(
        session, RunPart, [{"run_id": run.id, "part_id": p, "host_id": h} for p, h in parts]
    )
    subtask.live_run_id, subtask.attempt = run.id, attempt
    subtask.status, subtask.finished_at = SubtaskStatus.READY, None
    session.flush()
    return run.id


def _next_attempt(session: Session, subtask: Subtask) -> int:
    last = session.scalar(
        select(Run.attempt).where(Run.subtask_id == subtask.id).order_by(Run.attempt.desc())
    )
    return (last or 0) + 1


def wake_waiting(session: Session, host_ids: Iterable[int]) -> list[int]:
    """Runs for the parts that waited for these hosts, oldest task first."""
    waits = or_(Part.status == Status.PENDING, Part.undo == Undo.DUE)
    tasks = session.scalars(
        select(Part.task_id)
        .where(Part.host_id.in_(list(host_ids)), waits)
        .distinct()
        .order_by(Part.task_id)
    ).all()
    return open_runs(session, tasks) if tasks else []
