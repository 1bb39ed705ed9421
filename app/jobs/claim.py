"""Claim a run: one worker has it, its hosts are locked, and a growing number fences the rest."""

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE, JobType
from app.domain.states import Direction, RunStatus, Status, SubtaskStatus, Undo
from app.jobs.context import Context
from app.jobs.fold import refresh_tasks
from app.models.base import again_on_deadlock, insert_missing, now, transaction
from app.models.counter import take_turn
from app.models.fleet import HostLock
from app.models.work import Part, Run, RunPart, Subtask, Task


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A run we hold: every later write names its owner, every host hears its fence."""

    run_id: int
    subtask_id: int
    task_id: int
    job_id: int
    attempt: int
    owner: str
    fence: int
    direction: Direction
    job_type: JobType
    parts: Mapping[int, int]  # host id → part id


def worker_name() -> str:
    """Who we are, different after every start."""
    return f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@again_on_deadlock
def claim_run(ctx: Context, run_id: int, owner: str) -> Claim | None:
    """Take this run, unless somebody has it or all its hosts are held by other jobs."""
    with transaction(ctx.engine) as session:
        fence = take_turn(session)
        run = _take(session, run_id, owner, fence)
        if run is None:
            return None
        parts = _lock_hosts(session, run)
        subtask = session.get_one(Subtask, run.subtask_id)
        if not parts:
            _give_back(session, run, subtask)
            return None
        subtask.status, subtask.executor = SubtaskStatus.RUNNING, owner
        subtask.started_at = subtask.started_at or now()
        task = session.get_one(Task, run.task_id)
        task.started_at = task.started_at or now()
        # nothing to fold: its task runs since this run was opened, its job when a host begins
        return Claim(
            run_id=run.id,
            subtask_id=run.subtask_id,
            task_id=run.task_id,
            job_id=run.job_id,
            attempt=run.attempt,
            owner=owner,
            fence=run.fence,
            direction=run.direction,
            job_type=CATALOGUE[subtask.job_type],
            parts=parts,
        )


def _take(session: Session, run_id: int, owner: str, fence: int) -> Run | None:
    taken = session.execute(
        update(Run)
        .where(Run.id == run_id, Run.status == RunStatus.READY)
        .values(status=RunStatus.RUNNING, owner=owner, beat=1, fence=fence, started_at=now())
        .returning(Run)
    )
    return taken.scalar()


def _lock_hosts(session: Session, run: Run) -> dict[int, int]:
    """Lock the hosts of the run in id order; parts whose host is held wait for a further run."""
    parts = session.scalars(
        select(Part)
        .join(RunPart, RunPart.part_id == Part.id)
        .where(RunPart.run_id == run.id, _is_open(run.direction))
        .order_by(Part.host_id)
    ).all()
    insert_missing(
        session,
        HostLock,
        [{"host_id": p.host_id, "run_id": run.id, "job_id": run.job_id} for p in parts],
    )
    locks = {
        lock.host_id: lock
        for lock in session.scalars(
            select(HostLock)
            .join(RunPart, RunPart.host_id == HostLock.host_id)
            .where(RunPart.run_id == run.id)
            .execution_options(populate_existing=True)
        )
    }
    ours = {}
    for part in parts:
        lock = locks[part.host_id]
        if lock.run_id == run.id:
            part.run_id, part.reason = run.id, ""
            ours[part.host_id] = part.id
        else:
            part.reason = waits_for(lock.job_id)
    dropped = delete(RunPart).where(
        RunPart.run_id == run.id, RunPart.part_id.not_in(list(ours.values()))
    )
    session.execute(dropped)
    return ours


def _is_open(direction: Direction) -> ColumnElement[bool]:
    """Whether a part still wants what this run is for."""
    return (
        Part.status == Status.PENDING if direction is Direction.FORWARD else Part.undo == Undo.DUE
    )


def waits_for(job_id: int) -> str:
    """What a part says while another job has its host."""
    return f"held by job {job_id}"


def _give_back(session: Session, run: Run, subtask: Subtask) -> None:
    run.status, run.outcome, run.finished_at = RunStatus.ENDED, "held", now()
    subtask.live_run_id = None
    session.flush()
    refresh_tasks(session, [run.task_id])


def still_ours(session: Session, claim: Claim) -> bool:
    """Whether this run is still ours to write; the row stays locked until we commit."""
    return (
        session.execute(
            update(Run)
            .where(Run.id == claim.run_id, Run.owner == claim.owner, Run.status.in_(HELD))
            .values(beat=Run.beat + 1)
            .returning(Run.id)
        ).scalar()
        is not None
    )


HELD = (RunStatus.RUNNING, RunStatus.CANCELING)
