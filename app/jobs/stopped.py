"""End the parts of hosts that were stopped inside a run which goes on for the others."""

from collections.abc import Collection

from sqlalchemy import select

from app.domain.states import Cause, Status
from app.jobs.claim import Claim, still_ours
from app.jobs.context import Context
from app.jobs.dispatch import wake_waiting
from app.jobs.fold import refresh_targets
from app.jobs.settle import NEVER_BEGUN, STOPPED, Stopped, close_steps, free_hosts
from app.models.base import again_on_deadlock, transaction
from app.models.counter import take_turn
from app.models.journal import Entry, append_events
from app.models.work import Part


@again_on_deadlock
def settle_stopped_hosts(
    ctx: Context, claim: Claim, hosts: Collection[int], stopped: Stopped
) -> None:
    """Cancelled where the host proved it, lost where it could not be asked; their locks go free."""
    with transaction(ctx.engine) as session:
        take_turn(session)
        if not still_ours(session, claim):
            return
        ids = [claim.parts[host] for host in hosts if host in claim.parts]
        parts = session.scalars(select(Part).where(Part.id.in_(ids))).all()
        for part in parts:
            if not part.is_open(claim.direction):
                continue
            if part.host_id in stopped.proved:
                reason = STOPPED if part.status is Status.RUNNING else NEVER_BEGUN
                part.fail(reason, Cause.CANCELLED)
            else:
                part.fail(stopped.unproved[part.host_id], Cause.LOST)
        close_steps(session, parts)
        entries = [
            Entry(kind="part", data=p.change, host_id=p.host_id, run_id=claim.run_id) for p in parts
        ]
        append_events(session, claim.job_id, entries)
        refresh_targets(session, claim.task_id)
        freed = free_hosts(session, claim.run_id, list(hosts))
        runs = wake_waiting(session, freed)
    ctx.queue.send(runs)
