"""Let a rollout go on: the next wave, a pause, a person's word, or the end of it."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.domain.rollout import parse_rollout
from app.domain.states import Cause, Direction, Status
from app.jobs.block import block_followers
from app.models.base import now
from app.models.journal import Entry, append_events
from app.models.work import Part, Target, Task

UNFINISHED = (Status.PENDING, Status.RUNNING)


def roll_on(session: Session, task_ids: Iterable[int]) -> None:
    """Open the next waves of these tasks where every host of the open ones has ended."""
    tasks = select(Task).where(Task.id.in_(list(task_ids)), Task.direction == Direction.FORWARD)
    for task in session.scalars(tasks).all():
        if task.rollout is not None and not task.is_aborted:
            while _advance(session, task):
                pass


def _advance(session: Session, task: Task) -> bool:
    """One look at a rollout; whether it opened a wave, so that another look is worth it."""
    block_followers(session, task)  # what is blocked waits for no wave and holds none up
    if not (_waits_for_its_wave(session, task) and _open_waves_ended(session, task)):
        task.next_wave_at, task.waits_for_person = None, False
        return False
    if reason := why_it_stops(session, task):
        _stop(session, task, reason)
        return False
    rollout = parse_rollout(task.rollout)
    if rollout.soak and not task.waits_for_person:
        task.next_wave_at = task.next_wave_at or now() + rollout.soak
        if task.next_wave_at > now():
            return False
    if rollout.confirm:
        task.next_wave_at = None
        task.waits_for_person = True
        return False
    open_next_wave(session, task)
    return True


def why_it_stops(session: Session, task: Task) -> str:
    """Why no further wave of this task may begin; empty while one may."""
    if task.rollout is None or task.open_wave + 1 >= len(task.waves):
        return ""
    rollout = parse_rollout(task.rollout)
    is_canary = task.open_wave == 0 and rollout.canary > 0
    failed = _failed(session, task, is_canary)
    return rollout.must_stop(failed, sum(task.waves), is_canary) or ""


def open_next_wave(session: Session, task: Task) -> None:
    """The next hosts may begin."""
    task.open_wave += 1
    task.next_wave_at, task.waits_for_person = None, False
    session.flush()
    data = {"task_id": task.id, "open_wave": task.open_wave, "waves": list(task.waves)}
    append_events(session, task.job_id, [Entry(kind="wave", data=data)])


def _waits_for_its_wave(session: Session, task: Task) -> bool:
    """Whether a host of a later wave is still to be done: a rollout that stopped opens no more."""
    if task.open_wave + 1 >= len(task.waves):
        return False
    waiting = (
        select(Part.id)
        .join(Target, Target.id == Part.target_id)
        .where(
            Part.task_id == task.id,
            Part.status == Status.PENDING,
            Target.wave > task.open_wave,
        )
    )
    return session.scalar(waiting.limit(1)) is not None


def _open_waves_ended(session: Session, task: Task) -> bool:
    unfinished = (
        select(Part.id)
        .join(Target, Target.id == Part.target_id)
        .where(
            Part.task_id == task.id,
            Target.wave <= task.open_wave,
            Part.status.in_(UNFINISHED),
        )
    )
    return session.scalar(unfinished.limit(1)) is None


def _failed(session: Session, task: Task, is_canary: bool) -> int:
    """The hosts that failed in the open waves, but for those that never began.

    A canary counts also when somebody stopped it before it began: it has proved nothing.
    """
    counts: ColumnElement[bool] = Part.run_id.is_not(None)
    if is_canary:
        counts |= Part.cause == Cause.CANCELLED
    failed = (
        select(func.count(func.distinct(Part.target_id)))
        .join(Target, Target.id == Part.target_id)
        .where(
            Part.task_id == task.id,
            Part.status == Status.FAILED,
            counts,
            Target.wave <= task.open_wave,
        )
    )
    return session.scalar(failed) or 0


def _stop(session: Session, task: Task, reason: str) -> None:
    """Nothing further begins: the hosts that waited were not touched, and say why."""
    task.next_wave_at, task.waits_for_person = None, False
    waiting = select(Part).where(
        Part.task_id == task.id, Part.status == Status.PENDING, Part.run_id.is_(None)
    )
    entries = []
    for part in session.scalars(waiting).all():
        part.move_to(
            Status.FAILED,
            f"the rollout stopped before it: {reason}; mend that, then retry",
            cause=Cause.NOT_STARTED,
        )
        entries.append(Entry(kind="part", data=part.change, host_id=part.host_id))
    session.flush()
    append_events(session, task.job_id, entries)
