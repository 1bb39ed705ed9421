"""Which parts of a task are ready: its graph names the subtasks, its rules the parts of them."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Select, and_, bindparam, or_, select
from sqlalchemy.orm import Session, aliased

from app.domain.catalogue import CATALOGUE
from app.domain.graph import Graph, is_ready, stand
from app.domain.states import Direction, Status, Undo
from app.models.base import chunks
from app.models.fleet import HostLock
from app.models.work import Edge, Part, Subtask, Task


@dataclass(frozen=True)
class ReadyPart:
    """A part whose turn it is."""

    id: int
    subtask_id: int
    host_id: int
    direction: Direction
    holder: int | None  # the other job that has its host


def ready_parts(session: Session, task_ids: Collection[int]) -> Iterator[ReadyPart]:
    """The ready parts of these tasks, subtask by subtask.

    Those of a subtask with a live run are left to it, and to the look that follows its end.
    """
    for direction, ids in _by_direction(session, task_ids).items():
        for some in chunks(_open_subtasks(session, direction, ids)):
            for row in session.execute(_open_parts(direction), {"ids": some}):
                if is_ready(direction, row.status, row.undo, row.beside):
                    yield ReadyPart(row.id, row.subtask_id, row.host_id, direction, row.holder)


def _by_direction(session: Session, task_ids: Collection[int]) -> dict[Direction, list[int]]:
    found: dict[Direction, list[int]] = defaultdict(list)
    for direction, task_id in session.execute(_directions(), {"ids": list(task_ids)}):
        found[direction].append(task_id)
    return found


def _open_subtasks(
    session: Session, direction: Direction, task_ids: Sequence[int]
) -> Sequence[int]:
    """The subtasks a run may be opened for, in the order they were created."""
    asked = {"ids": list(task_ids)}
    rows = {row.id: row for row in session.execute(_subtasks(), asked)}
    words: dict[int, set[Any]] = defaultdict(set)
    for subtask_id, word in session.execute(_words(direction), asked):
        words[subtask_id].add(word)
    standing = {
        subtask_id: stand(direction, words[subtask_id], CATALOGUE[row.job_type].barrier)
        for subtask_id, row in rows.items()
    }
    graph = Graph(tuple(rows), _edges(session, asked, rows))
    if direction is Direction.FORWARD:
        begin = graph.promotable(standing)
    else:
        begin = graph.rollback_ready(standing)
    return sorted(s for s in begin if _wants_run(rows[s]))


def _wants_run(subtask: Any) -> bool:
    return subtask.live_run_id is None and CATALOGUE[subtask.job_type].changes_host


def _edges(session: Session, asked: Any, rows: dict[int, Any]) -> tuple[tuple[int, int], ...]:
    """Who waits for whom inside a wave; when the next wave begins, the rollout says."""
    if not any(row.stage for row in rows.values()):
        return ()
    return tuple(
        (up, down)
        for up, down in session.execute(_all_edges(), asked)
        if up in rows and down in rows and rows[up].wave == rows[down].wave
    )


# --- Statements, which are dearer to build than to execute ----------------------------------------

IDS: BindParameter[Any] = bindparam("ids", expanding=True)
SAID = {Direction.FORWARD: Part.status, Direction.BACK: Part.undo}
IS_OPEN = {
    Direction.FORWARD: Part.status == Status.PENDING,
    Direction.BACK: Part.undo == Undo.DUE,
}
BESIDE = {Direction.FORWARD: -1, Direction.BACK: 1}  # the stage that must be done, or be back


@cache
def _directions() -> Select[Direction, int]:
    return select(Task.direction, Task.id).where(Task.id.in_(IDS), Task.is_aborted.is_(False))


@cache
def _subtasks() -> Select[int, int, int, str, int | None]:
    """Those whose wave may run; on the way back, all."""
    return (
        select(Subtask.id, Subtask.stage, Subtask.wave, Subtask.job_type, Subtask.live_run_id)
        .join(Task, Task.id == Subtask.task_id)
        .where(
            Subtask.task_id.in_(IDS),
            or_(Task.direction == Direction.BACK, Subtask.wave <= Task.open_wave),
        )
    )


@cache
def _words(direction: Direction) -> Select[int, Status | Undo | None]:
    """What the parts of each subtask say, each thing once."""
    return (
        select(Part.subtask_id, SAID[direction])
        .join(Subtask, Subtask.id == Part.subtask_id)
        .where(Subtask.task_id.in_(IDS))
        .distinct()
    )


@cache
def _all_edges() -> Select[int, int]:
    return select(Edge.upstream_id, Edge.downstream_id).where(Edge.task_id.in_(IDS))


@cache
def _open_parts(
    direction: Direction,
) -> Select[int, int, int, Status, Undo | None, Status | Undo | None, int]:
    """Open parts, what their target's neighbouring part says, and who else has their host."""
    beside = aliased(Part)
    neighbours = and_(
        beside.target_id == Part.target_id, beside.stage == Part.stage + BESIDE[direction]
    )
    said = beside.status if direction is Direction.FORWARD else beside.undo
    return (
        select(
            Part.id,
            Part.subtask_id,
            Part.host_id,
            Part.status,
            Part.undo,
            said.label("beside"),
            HostLock.job_id.label("holder"),
        )
        .outerjoin(beside, neighbours)
        .outerjoin(HostLock, HostLock.host_id == Part.host_id)
        .where(
            Part.subtask_id.in_(IDS),
            IS_OPEN[direction],
            or_(HostLock.host_id.is_(None), HostLock.job_id != Part.job_id),
        )
        .order_by(Part.subtask_id, Part.id)
    )
