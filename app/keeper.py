"""The keeper: one thread of the installation does every periodic duty, whoever else is busy."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from app.access.credentials import find_expired, wipe_expired
from app.access.web_sessions import delete_ended_sessions, has_ended_sessions
from app.jobs.claim import worker_name
from app.jobs.context import Context
from app.jobs.reconcile import LeaseBook, WaitBook, declare_lost, offer_again, wake_all
from app.jobs.report import expire_reports
from app.jobs.retention import forget_old
from app.jobs.settle import needed_hosts
from app.log import log
from app.models.base import now, reading, transaction
from app.models.duties import find_lease, is_due, open_lease, postpone, renew_lease

LEASE = "keeper"


@dataclass(frozen=True)
class Chore:
    """A duty, and how often it is due."""

    name: str
    every: timedelta
    do: Callable[[Context], object]


def wipe_logins(ctx: Context) -> int:
    """Wipe the logins whose time is over, but for those an unfinished job needs; how many."""
    with reading(ctx.engine) as session:
        if not find_expired(session, now(), lambda hosts: needed_hosts(session, hosts)):
            return 0
    with transaction(ctx.engine) as session:
        return wipe_expired(session, now(), lambda hosts: needed_hosts(session, hosts))


def end_sessions(ctx: Context) -> None:
    """Forget the browsers' sessions that have ended."""
    with reading(ctx.engine) as session:
        if not has_ended_sessions(session, now()):
            return
    with transaction(ctx.engine) as session:
        delete_ended_sessions(session, now())


# Each looks before it writes: on SQLite whoever writes makes everybody else who writes wait.
CHORES = (
    Chore("reconcile", timedelta(seconds=10), wake_all),
    Chore("expire_reports", timedelta(seconds=30), expire_reports),
    Chore("wipe_logins", timedelta(seconds=60), wipe_logins),
    Chore("end_sessions", timedelta(hours=1), end_sessions),
    Chore("forget_old", timedelta(hours=1), forget_old),
)


class Keeper:
    """Runs in every API and worker process; the one that holds the lease does the work."""

    def __init__(self, ctx: Context, clock: Callable[[], float] = time.monotonic) -> None:
        self.ctx = ctx
        self.name = worker_name()
        self.runs = LeaseBook(ctx.settings.lease_seconds, clock)
        self.waits = WaitBook(clock=clock)
        self.rival = LeaseBook(max(3 * ctx.settings.keeper_seconds, 5.0), clock)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def run(self) -> None:
        """Keep in this very thread, until the process ends."""
        self._keep()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _keep(self) -> None:
        while not self._over.wait(self.ctx.settings.keeper_seconds):
            try:
                self.turn()
            except Exception as error:
                # a duty that failed is due again; the next turn may find the database back
                log.warning("The keeper stumbled", action="keeper", error=str(error))

    def turn(self) -> None:
        """One look: at every lease, and, when we are the one, at what is due."""
        if not self._is_elected():
            return
        declare_lost(self.ctx, self.runs)
        offer_again(self.ctx, self.waits)
        for chore in self._due():
            self._take(chore)
            chore.do(self.ctx)

    def _is_elected(self) -> bool:
        with reading(self.ctx.engine) as session:
            lease = find_lease(session, LEASE)
        is_a_rivals = lease is not None and lease.owner not in ("", self.name)
        if lease and is_a_rivals and not self.rival.expired([(0, lease.owner, lease.beat)]):
            return False
        with transaction(self.ctx.engine) as session:
            return renew_lease(session, lease or open_lease(session, LEASE), self.name)

    def _due(self) -> list[Chore]:
        with reading(self.ctx.engine) as session:
            return [chore for chore in CHORES if is_due(session, chore.name, chore.every)]

    def _take(self, chore: Chore) -> None:
        """The duty is due again in a while, also when doing it fails."""
        with transaction(self.ctx.engine) as session:
            postpone(session, chore.name, chore.every)
