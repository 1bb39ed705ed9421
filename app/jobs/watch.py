"""Watch over a run from its own work-horse: renew its lease, and stop what is asked to stop."""

import threading
import time
from collections.abc import Callable

from sqlalchemy import and_, select, update

from app.domain.states import RunStatus
from app.jobs.claim import HELD, Claim
from app.jobs.context import Context
from app.log import log
from app.models.base import reading, transaction
from app.models.work import Run, RunPart

LOOK = 0.5  # seconds between two looks at what is asked of us
GIVE_UP = 10.0  # seconds without a renewed lease after which the run stops itself


class Watch:
    """A thread beside the run, from `with` to its end."""

    def __init__(
        self,
        ctx: Context,
        claim: Claim,
        stop: Callable[[], object],
        stop_hosts: Callable[[set[int]], object],
    ) -> None:
        self.ctx, self.claim = ctx, claim
        self.stop, self.stop_hosts = stop, stop_hosts
        self.stop_requested = False
        self.is_fenced = False
        self.stopped_hosts: set[int] = set()
        self._over = threading.Event()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            try:
                self._look()
                self._renew()
            except Exception as error:
                log.warning("Cannot watch the run", run_id=self.claim.run_id, error=str(error))
            if time.monotonic() - self._renewed > max(GIVE_UP, self.ctx.settings.renew_seconds):
                self._lose()
            if self.is_fenced:
                return

    def _look(self) -> None:
        with reading(self.ctx.engine) as session:
            rows = session.execute(
                select(Run.owner, Run.status, RunPart.host_id)
                .outerjoin(RunPart, and_(RunPart.run_id == Run.id, RunPart.stop_requested))
                .where(Run.id == self.claim.run_id)
            ).all()
        owner, status, _ = rows[0]
        asked = {host_id for _, _, host_id in rows if host_id is not None}
        if owner != self.claim.owner or status not in HELD:
            self._lose()
        elif status is RunStatus.CANCELING and not self.stop_requested:
            self.stop_requested = True
            self.stop()
        elif new := asked - self.stopped_hosts:
            self.stopped_hosts |= new
            if not self.stop_requested:
                self.stop_hosts(new)

    def _renew(self) -> None:
        if time.monotonic() - self._renewed < self.ctx.settings.renew_seconds:
            return
        with transaction(self.ctx.engine) as session:
            renewed = session.execute(
                update(Run)
                .where(
                    Run.id == self.claim.run_id,
                    Run.owner == self.claim.owner,
                    Run.status.in_(HELD),
                )
                .values(beat=Run.beat + 1)
                .returning(Run.id)
            ).scalar()
        if renewed is None:
            self._lose()
        self._renewed = time.monotonic()

    def _lose(self) -> None:
        """The run is somebody else's now, or nobody can say: stop, and write nothing more."""
        self.is_fenced = True
        self.stop()
