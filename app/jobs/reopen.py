"""Make parts that ended pending again, so that a new run takes them."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.domain.states import Operation, Status, Undo
from app.jobs.undo import must_undo, state_before
from app.models.base import among
from app.models.work import Part, Subtask, Target, Task

WAITS = "waits to be tried again"


def reopen_parts(
    session: Session, parts: Collection[Part], operation: Operation = Operation.RETRY
) -> set[int]:
    """Try these failed parts again: forward with all that waited for them, back as they are.

    Returns the ids of the tasks they belong to; the caller opens runs.
    """
    for part in parts:
        if part.undo is Undo.FAILED:
            part.owe()
    forward = [part for part in parts if part.undo is None]
    again = _with_followers(session, forward)
    left = _may_have_left(session, again)
    for part in again:
        part.move_to(Status.PENDING, WAITS)
        part.run_id, part.before = None, left.get(part.id)
        part.has_started = part.id in left  # it counts also when the next never gets that far
    mark_subtasks(session, {part.subtask_id for part in parts}, operation)
    task_ids = {part.task_id for part in parts}
    session.execute(update(Task).where(among(Task.id, task_ids)).values(finished_at=None))
    session.flush()
    return task_ids


def _with_followers(session: Session, parts: Sequence[Part]) -> list[Part]:
    first: dict[int, int] = {}
    for part in parts:  # a target may have failed in several stages: all that was revoked has
        first[part.target_id] = min(part.stage, first.get(part.target_id, part.stage))
    failed = select(Part).where(among(Part.target_id, first), Part.status == Status.FAILED)
    return [part for part in session.scalars(failed) if part.stage >= first[part.target_id]]


def _may_have_left(session: Session, parts: Sequence[Part]) -> dict[int, dict[str, Any]]:
    """What was there before, by part: of those whose attempt may have left something behind."""
    doubtful = [part for part in parts if must_undo(part)]
    ids = (part.target_id for part in doubtful)
    targets = {t.id: t for t in session.scalars(select(Target).where(among(Target.id, ids)))}
    return {part.id: state_before(part, targets[part.target_id]) for part in doubtful}


def mark_subtasks(session: Session, subtask_ids: Collection[int], operation: Operation) -> None:
    """What was last asked of these subtasks."""
    session.execute(
        update(Subtask)
        .where(among(Subtask.id, subtask_ids))
        .values(operation=operation, finished_at=None)
    )
