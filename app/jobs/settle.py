"""Settle a run: every part of it gets a terminal status and a reason, and the graph goes on."""

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.access.credentials import StandingGrant, wipe_after_job
from app.automation.events import Verdict
from app.domain.catalogue import CATALOGUE
from app.domain.states import Cause, Direction, JobStatus, RunStatus, Status
from app.jobs.claim import HELD, Claim
from app.jobs.context import Context
from app.jobs.dispatch import wake_waiting
from app.jobs.fold import refresh_tasks
from app.jobs.outcome import apply_effect, note_standing_access
from app.jobs.undo import undo_of
from app.models.base import again_on_deadlock, among, chunks, now, reading, transaction
from app.models.counter import take_turn
from app.models.fleet import Host, HostLock
from app.models.journal import Entry, append_events
from app.models.work import (
    Job,
    LogChunk,
    Part,
    Run,
    RunPart,
    StepRow,
    Subtask,
    Target,
    Task,
    is_unfinished,
)

STOPPED = "stopped on request, and proved stopped; retry it when you want it done"
NEVER_BEGUN = "stopped on request before it began; the host was not touched"
LOST = "the run was lost before this host's result arrived; look at the host, or retry it"


@dataclass(frozen=True)
class Stopped:
    """What is known of hosts that were asked to stop: proved, or why nobody can say."""

    proved: frozenset[int] = frozenset()
    unproved: Mapping[int, str] = field(default_factory=dict)


@again_on_deadlock
def settle_run(
    ctx: Context,
    claim: Claim,
    verdict: Verdict,
    stopped: Stopped = Stopped(),
    standing: Mapping[int, StandingGrant] | None = None,
) -> bool:
    """End our run by its verdict; False when it was no longer ours and nothing was written.

    `standing`: by host id, whose authorized_keys now holds Hostler's key, where the part succeeded.
    """
    with transaction(ctx.engine) as session:
        take_turn(session)
        run = _end(session, claim.run_id, claim.owner, verdict.outcome, verdict.message)
        if run is None:
            return False
        parts = _taken_parts(session, run.id)
        for part in parts:
            _conclude(part, claim.direction, verdict, stopped)
        _apply_effects(session, parts, claim.direction, standing or {})
        runs = finish_run(session, run, parts)
    ctx.queue.send(runs)
    archive_log(ctx, claim.run_id)
    return True


@again_on_deadlock
def settle_lost(ctx: Context, run_id: int, owner: str, why: str) -> bool:
    """End a run whose worker is gone: what is proven stays, the rest is lost (design.md §3)."""
    with transaction(ctx.engine) as session:
        take_turn(session)
        run = _end(session, run_id, owner, "lost", why)
        if run is None:
            return False
        parts = _taken_parts(session, run_id)
        for part in parts:
            if part.is_open(run.direction):
                part.fail(f"{LOST} ({why})", Cause.LOST)
        _apply_effects(session, parts, run.direction, {})
        runs = finish_run(session, run, parts)
    ctx.queue.send(runs)
    archive_log(ctx, run_id)
    return True


def finish_run(session: Session, run: Run, parts: Collection[Part]) -> list[int]:
    """Free the hosts of an ended run and open what became ready; returns the runs to send."""
    run_id, task_id, job_id = run.id, run.task_id, run.job_id
    session.execute(
        update(Subtask)
        .where(Subtask.id == run.subtask_id, Subtask.live_run_id == run_id)
        .values(live_run_id=None)
    )
    close_steps(session, parts)
    _note(session, run, parts)
    hosts = free_hosts(session, run_id)
    session.expire_all()
    runs = wake_waiting(session, hosts, [task_id])
    refresh_tasks(session, [task_id])
    _wipe_logins(session, job_id)
    return runs


def free_hosts(session: Session, run_id: int, host_ids: Collection[int] | None = None) -> list[int]:
    """Give back the locks this run holds, all or those of these hosts; returns whose."""
    held = HostLock.run_id == run_id
    if host_ids is not None:
        held &= HostLock.host_id.in_(host_ids)
    return list(session.scalars(delete(HostLock).where(held).returning(HostLock.host_id)))


def _end(session: Session, run_id: int, owner: str, outcome: str, message: str) -> Run | None:
    """The run, ended by us; None when it is not this owner's any more."""
    ended = (
        update(Run)
        .where(Run.id == run_id, Run.owner == owner, Run.status.in_(HELD))
        .values(status=RunStatus.ENDED, outcome=outcome, message=message, finished_at=now())
    )
    return session.execute(ended.returning(Run)).scalar()


def _taken_parts(session: Session, run_id: int) -> list[Part]:
    taken = select(Part).join(RunPart, RunPart.part_id == Part.id).where(RunPart.run_id == run_id)
    return [p for p in session.scalars(taken.order_by(Part.id)) if p.run_id == run_id]


def _conclude(part: Part, direction: Direction, verdict: Verdict, stopped: Stopped) -> None:
    """The verdict decides; what was stopped is cancelled only where that is proved."""
    host = part.host_id
    rescued = part.status is Status.FAILED and part.undo is None and host in verdict.proven_ok
    if rescued or (part.is_open(direction) and host in verdict.proven_ok):
        part.prove()
    elif not part.is_open(direction):
        return
    elif host in stopped.proved:
        part.fail(STOPPED if part.has_started else NEVER_BEGUN, Cause.CANCELLED)
    elif host in stopped.unproved:
        part.fail(stopped.unproved[host], Cause.LOST)
    elif host in verdict.failed:
        cause, reason = verdict.failed[host]
        part.fail(reason, cause)
    else:
        cause = Cause.TIMEOUT if verdict.outcome == "timeout" else Cause.NOT_STARTED
        part.fail(f"it was never reached: {verdict.message or 'the run ended before'}", cause)


def _apply_effects(
    session: Session,
    parts: Collection[Part],
    direction: Direction,
    standing: Mapping[int, StandingGrant],
) -> None:
    ids = [part.host_id for part in parts]
    hosts = {host.id: host for host in session.scalars(select(Host).where(Host.id.in_(ids)))}
    proven = Status.SUCCESS if direction is Direction.FORWARD else Status.PENDING
    for part in parts:
        host = hosts.get(part.host_id)
        if host is None or part.status is not proven or part.undo is not None:
            continue
        effect, keeps = CATALOGUE[part.job_type].effect, False
        if direction is Direction.BACK:
            back = undo_of(part, session.get_one(Target, part.target_id))
            effect, host.values = back.effect, dict(back.values)
            keeps = back.keeps_standing_access
        apply_effect(host, effect, part.after or {}, keeps_standing_access=keeps)
        if (grant := standing.get(host.id)) and (part.after or {}).get("standing_key", True):
            note_standing_access(host, grant, part.id)


def close_steps(session: Session, parts: Collection[Part]) -> None:
    """No step of an ended part is running: it ended as the part did, and says why."""
    by_id = {part.id: part for part in parts}
    begun = among(StepRow.part_id, by_id)
    running = select(StepRow).where(begun, StepRow.status == Status.RUNNING)
    for step in session.scalars(running):
        part = by_id[step.part_id]
        step.status = Status.SUCCESS if part.status is Status.SUCCESS else Status.FAILED
        step.finished_at = part.finished_at
        step.log = f"{step.log.rstrip()}\n{part.reason}".strip()


def _note(session: Session, run: Run, parts: Collection[Part]) -> None:
    at = now()
    append_events(
        session,
        run.job_id,
        [
            Entry(kind="part", data=part.change, host_id=part.host_id, run_id=run.id, at=at)
            for part in parts
        ],
    )


def _wipe_logins(session: Session, job_id: int) -> None:
    """Logins kept for this job alone end with it."""
    status = session.scalar(select(Job.status).where(Job.id == job_id))
    if status in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.PART_FAILED):
        hosts = session.scalars(select(Part.host_id).where(Part.job_id == job_id).distinct())
        wipe_after_job(session, unneeded_hosts(session, hosts.all()), now())


def unneeded_hosts(session: Session, host_ids: Collection[int]) -> set[int]:
    """Those of these hosts on which no job has anything left to do."""
    return set(host_ids) - needed_hosts(session, host_ids)


def needed_hosts(session: Session, host_ids: Collection[int]) -> set[int]:
    """Those of these hosts on which an unfinished job still waits or works."""
    needed: set[int] = set()
    for some in chunks(host_ids):
        busy = (
            select(Part.host_id)
            .join(Task, Task.id == Part.task_id)
            .where(Part.host_id.in_(some), is_unfinished())
        )
        needed |= set(session.scalars(busy))
    return needed


def archive_log(ctx: Context, run_id: int) -> None:
    """Compress the log of a settled run to one blob; nothing is added to it any more."""
    with reading(ctx.engine) as session:
        pieces = session.scalars(
            select(LogChunk.content).where(LogChunk.run_id == run_id).order_by(LogChunk.offset)
        ).all()
    if not pieces:
        return
    blob = zlib.compress(b"".join(pieces), 6)
    with transaction(ctx.engine) as session:  # as short as can be: the next claim waits for it
        session.execute(update(Run).where(Run.id == run_id).values(log_blob=blob))
        session.execute(delete(LogChunk).where(LogChunk.run_id == run_id))
