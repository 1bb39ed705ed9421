"""Make the work true again after anything died: offer again, declare lost, wake what waits."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.domain.states import RunStatus, Status
from app.jobs.context import Context
from app.jobs.dispatch import open_runs
from app.jobs.fold import refresh_tasks
from app.jobs.ready import ready_parts
from app.jobs.settle import settle_lost
from app.log import log
from app.models.base import again_on_deadlock, among, now, reading, transaction
from app.models.counter import take_turn
from app.models.fleet import HostLock
from app.models.work import Part, Run, Subtask, Task, is_unfinished

OFFER_AGAIN = 5.0  # seconds; a READY run seen for longer than this may have lost its place


@dataclass
class LeaseBook:
    """When we last saw each lease move, by our own clock: nobody's clocks are compared."""

    patience: float  # seconds without a beat after which a lease is gone
    clock: Callable[[], float] = time.monotonic
    seen: dict[int, tuple[str, int, float]] = field(default_factory=dict)

    def expired(self, leases: Iterable[tuple[int, str, int]]) -> list[tuple[int, str]]:
        """Of these (run, owner, beat), the ones that have not moved for too long."""
        leases, at = list(leases), self.clock()
        gone = []
        for run_id, owner, beat in leases:
            known = self.seen.get(run_id)
            if known is None or known[:2] != (owner, beat):
                self.seen[run_id] = (owner, beat, at)
            elif at - known[2] >= self.patience:
                gone.append((run_id, owner))
        for run_id in self.seen.keys() - {lease[0] for lease in leases}:
            del self.seen[run_id]
        return gone


@dataclass
class WaitBook:
    """Since when we have seen each run wait, by our own clock: its row's may have gone back."""

    patience: float = OFFER_AGAIN
    clock: Callable[[], float] = time.monotonic
    seen: dict[int, float] = field(default_factory=dict)

    def overdue(self, runs: Iterable[int]) -> list[int]:
        """Of these waiting runs, those that wait for longer than they should."""
        at = self.clock()
        self.seen = {run_id: self.seen.get(run_id, at) for run_id in runs}
        overdue = sorted(run for run, since in self.seen.items() if at - since >= self.patience)
        self.seen |= dict.fromkeys(overdue, at)  # offered now: asked again after as long
        return overdue


def declare_lost(ctx: Context, book: LeaseBook) -> int:
    """Settle the runs whose lease is gone; returns how many."""
    with reading(ctx.engine) as session:
        held = select(Run.id, Run.owner, Run.beat).where(
            Run.status.in_([RunStatus.RUNNING, RunStatus.CANCELING])
        )
        leases = [(row.id, row.owner, row.beat) for row in session.execute(held)]
    expired = book.expired(leases)
    for run_id, owner in expired:
        log.warning("A run lost its worker", run_id=run_id, owner=owner, action="lost")
        try:
            settle_lost(ctx, run_id, owner, "its worker is gone")
        except Exception as error:
            # the others, and every other duty, must not wait for this one; it is due again
            log.error("Cannot settle a lost run", run_id=run_id, error=repr(error))
    return len(expired)


def offer_again(ctx: Context, book: WaitBook) -> int:
    """Send runs that wait longer than they should: Redis may have forgotten them."""
    with reading(ctx.engine) as session:
        waiting = select(Run.id).where(Run.status == RunStatus.READY)
        runs = book.overdue(session.scalars(waiting))
    ctx.queue.send(runs)
    return len(runs)


@again_on_deadlock
def wake_all(ctx: Context) -> int:
    """Open runs for every part that is ready and that nobody woke."""
    with reading(ctx.engine) as session:
        if not _is_forgotten(session):
            return 0  # whoever writes makes the others wait, and this is asked every few seconds
    with transaction(ctx.engine) as session:
        take_turn(session)
        for lock in session.scalars(_dead_locks()).all():
            session.delete(lock)
        tasks = _waiting_tasks(session)
        runs = open_runs(session, tasks) if tasks else []
        touched = set(session.scalars(select(Run.task_id).where(among(Run.id, runs))))
        refresh_tasks(session, sorted(touched))
    ctx.queue.send(runs)
    return len(runs)


def _is_forgotten(session: Session) -> bool:
    """Whether something is ready, a wave's time has come, or a lock is nobody's."""
    waves = select(Task.id).where(Task.next_wave_at <= now())
    if any(session.scalar(query.limit(1)) for query in (waves, _dead_locks())):
        return True
    return any(part.holder is None for part in ready_parts(session, _waiting_tasks(session)))


def _waiting_tasks(session: Session) -> list[int]:
    """The tasks in which something waits and no run is at it, the oldest first."""
    waiting = (
        select(Part.task_id)
        .join(Subtask, Subtask.id == Part.subtask_id)
        .join(Task, Task.id == Part.task_id)
        .where(is_unfinished(), Part.status != Status.RUNNING, Subtask.live_run_id.is_(None))
        .distinct()
    )
    return list(session.scalars(waiting.order_by(Part.task_id)))


def _dead_locks() -> Select[HostLock]:
    """Locks of ended runs, which nobody is left to give back."""
    return (
        select(HostLock)
        .outerjoin(Run, Run.id == HostLock.run_id)
        .where(Run.id.is_(None) | (Run.status == RunStatus.ENDED))
    )
