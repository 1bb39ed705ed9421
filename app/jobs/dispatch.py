"""Open runs for the parts that are ready: the one act every other verb shares."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.domain.states import Direction, Status, SubtaskStatus, Undo
from app.jobs.claim import waits_for
from app.jobs.ready import ReadyPart, ready_parts
from app.jobs.rollon import roll_on
from app.models.base import among
from app.models.rows import insert_rows
from app.models.work import Part, Run, RunPart, Subtask


def open_runs(session: Session, task_ids: Iterable[int]) -> list[int]:
    """A new run for every subtask of these tasks with ready parts and no live run.

    A ready part whose host another job holds waits, and says for whom. Returns the run ids to send
    once the transaction is committed.
    """
    ids = list(task_ids)
    session.flush()
    roll_on(session, ids)
    taken: dict[int, list[ReadyPart]] = defaultdict(list)
    held = []
    for part in ready_parts(session, ids):
        if part.holder is None:
            taken[part.subtask_id].append(part)
        elif part.direction is Direction.FORWARD:
            held.append({"id": part.id, "reason": waits_for(part.holder)})
    if held:
        session.execute(update(Part), held)
    return [_open_run(session, subtask_id, parts) for subtask_id, parts in taken.items()]


def _open_run(session: Session, subtask_id: int, parts: Collection[ReadyPart]) -> int:
    subtask = session.get_one(Subtask, subtask_id)
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
    rows = [{"run_id": run.id, "part_id": part.id, "host_id": part.host_id} for part in parts]
    insert_rows(session, RunPart, rows)
    subtask.live_run_id, subtask.attempt = run.id, attempt
    subtask.status, subtask.finished_at = SubtaskStatus.READY, None
    session.flush()
    return run.id


def _next_attempt(session: Session, subtask: Subtask) -> int:
    last = session.scalar(
        select(Run.attempt).where(Run.subtask_id == subtask.id).order_by(Run.attempt.desc())
    )
    return (last or 0) + 1


def wake_waiting(
    session: Session, host_ids: Iterable[int], task_ids: Iterable[int] = ()
) -> list[int]:
    """Runs for the parts that waited for these hosts, and for what is ready in these tasks."""
    waits = or_(Part.status == Status.PENDING, Part.undo == Undo.DUE)
    waiting = select(Part.task_id).where(among(Part.host_id, host_ids), waits).distinct()
    tasks = sorted({*task_ids, *session.scalars(waiting)})
    return open_runs(session, tasks) if tasks else []
