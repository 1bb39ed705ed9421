"""A worker: takes runs from the queue, one work-horse each, and buries what a dead horse leaves."""

import ctypes
import gc
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import RedisError
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job

from app.automation.processes import find_processes, kill_strays
from app.automation.runner import clean_folders
from app.automation.said import kept
from app.domain.states import RunStatus
from app.horse import Guard, WaitingHorse, fork_waiting
from app.jobs.claim import HELD, worker_name
from app.jobs.context import Context
from app.jobs.execute import execute_run
from app.jobs.rehearse import rehearse
from app.jobs.settle import settle_lost
from app.log import log
from app.models.base import reading
from app.models.work import Run
from app.queue import Forged, WorkQueue

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE = 3.0  # seconds between asking a process to end and ending it

LEASES = 2  # as many times a lease takes a horse that lost its run, at most, to stop by itself
UNCLAIMED = 60.0  # seconds in which a horse claims its run, which takes a moment
MOST_WORDS = 2000  # characters of an error in a line of our log
LONGEST_CHAIN, DEEPEST_FRAMES = 5, 8

_context: Context | None = None
_owner = ""


def run_worker(ctx: Context) -> None:
    """Work until told to stop; SIGTERM lets the run in hand finish, a second one does not."""
    global _context, _owner
    _context, _owner = ctx, worker_name()
    _become_subreaper()
    bury_strays(ctx)
    _warm_up(ctx)
    HostlerWorker([ctx.queue.rq], name=_owner.replace(":", "-"), connection=ctx.queue.connection,
                  serializer=ctx.queue.rq.serializer).work(logging_level="WARNING")  # fmt: skip


def execute(run_id: int) -> None:
    """What RQ calls in the work-horse: the whole life of one run."""
    assert _context is not None, "the worker sets the context before it forks"
    execute_run(_context, run_id, _owner)


def _warm_up(ctx: Context) -> None:
    """Have ready, for every work-horse to inherit, what each would make for itself."""
    try:
        rehearse(ctx)
        ctx.queue.rq.get_redis_server_version()  # it is asked once and remembered
    except Exception as error:
        log.warning("Could not rehearse a run; each will take longer", error=str(error))
    gc.collect()
    gc.freeze()  # collecting these would copy pages that are shared


class HostlerWorker(Worker):
    """RQ's worker, which outlives Redis and settles what its horse could not.

    While it waits for work, its next horse does too, and is ready when work comes.
    """

    _next: WaitingHorse | None = None

    def bootstrap(self, *args: Any, **more: Any) -> None:
        super().bootstrap(*args, **more)
        self._have_next()

    def execute_job(self, job: Job, queue: Queue) -> None:
        try:
            run_id = _queue().read_run(job)
        except Forged:
            self._refuse(job, queue)
            return
        try:
            super().execute_job(job, queue)
        except RedisError as error:
            log.warning("Redis went away during a run", run_id=run_id, error=str(error))
            self._await_horse(job)
        finally:
            _bury_surely(run_id)
        self._have_next()

    def _refuse(self, job: Job, queue: Queue) -> None:
        """Drop what somebody else wrote into our queue, and say so: it may name any function."""
        log.error(
            "A job in Redis is none of ours, and was not executed; protect Redis from whoever"
            " wrote it",
            action="forged",
            job=kept(job.id, 200),
        )
        self.connection.lrem(queue.intermediate_queue_key, 0, job.id)
        job.delete(remove_from_queue=False)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """The horse that waits takes the job; where it has died, another one."""
        assert self.execution
        key = self.execution.composite_key
        horse, self._next = self._next, None
        if horse is None or not horse.order(key):
            horse = self._fork_horse()
            horse.order(key)
        self._horse_pid = horse.pid

    def monitor_work_horse(self, job: Job, queue: Queue) -> None:
        with self._guard(job):
            super().monitor_work_horse(job, queue)

    def _guard(self, job: Job) -> Guard:
        assert _context is not None
        run_id, since = _queue().read_run(job), time.monotonic()
        grace = LEASES * _context.settings.lease_seconds
        return Guard(self.horse_pid, lambda: _is_lost(run_id, since), job.id, grace)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Say in our log what went wrong; RQ's way would print what hosts said as it is."""
        error = exc_info[1]
        words = {"error": kept(repr(error), MOST_WORDS), "where": outline(error)}
        log.error("A run ended by a fault of ours", action="fault", job=job.id, **words)

    def handle_job_failure(
        self, job: Job, queue: Queue, started_job_registry: Any = None, exc_string: str = ""
    ) -> None:
        """Keep in Redis where it went wrong; what was said there may be a host's words."""
        error = sys.exc_info()[1]
        text = outline(error) if error else exc_string
        super().handle_job_failure(job, queue, started_job_registry, text)

    def _have_next(self) -> None:
        """A horse that waits; where there can be none now, the next job's is forked for it."""
        if self._next is None and not self._stop_requested:
            with suppress(OSError):
                self._next = self._fork_horse()

    def _fork_horse(self) -> WaitingHorse:
        assert _context is not None
        # a connection that is open here would break in the horse; Redis's pool sees to that itself
        _context.engine.dispose()
        return fork_waiting(self._warm_horse, self._ride)

    def _warm_horse(self) -> None:
        """In the horse: open connections, and touch what the first steps of a run touch."""
        assert _context is not None
        die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the worker's way to stop is not ours
        with suppress(Exception):  # what is wrong shows, and is said, when it is ridden
            self.connection.ping()
            with reading(_context.engine) as session:
                session.get(Run, 0)

    def _ride(self, execution_key: str) -> None:
        """In the horse, once it is needed: do the job, and end."""
        self.execution = Execution.from_composite_key(execution_key, self.connection)
        job = Job.fetch(self.execution.job_id, self.connection, self.serializer)
        _queue().read_run(job)  # it may have been changed since the worker looked
        self.main_work_horse(job, self.queues[0])

    def _await_horse(self, job: Job) -> None:
        """The run needs no Redis: let it end."""
        if self.horse_pid:
            with self._guard(job):
                self.wait_for_horse()
            self._horse_pid = 0


def _queue() -> WorkQueue:
    assert _context is not None
    return _context.queue


def _is_lost(run_id: int, since: float) -> bool:
    """Whether a horse of ours that began then has no business with this run any more."""
    assert _context is not None
    with reading(_context.engine) as session:
        run = session.get(Run, run_id)
        if run is None:
            return True
        if run.status is RunStatus.READY:
            return time.monotonic() - since > UNCLAIMED
        return run.owner != _owner or run.status not in HELD


def outline(error: BaseException | None) -> str:
    """What kinds of errors led here and where each arose, without a word of what they say."""
    lines: list[str] = []
    while error and len(lines) < LONGEST_CHAIN:
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        lines.append(f"{type(error).__name__}: {' > '.join(places[-DEEPEST_FRAMES:])}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nafter ".join(lines)


def _bury_surely(run_id: int) -> None:
    """Bury, whole, even when the worker is told to stop in the middle of it."""
    try:
        bury(run_id)
    except StopRequested:
        bury(run_id)
        raise


def bury(run_id: int) -> None:
    """After the horse: end every process it left, then settle what it did not."""
    ctx = _context
    assert ctx is not None
    if not kill_strays(run_id, GRACE, ctx.settings.run_folder):
        log.error("Processes of a dead run cannot be ended", run_id=run_id, action="strays")
    clean_folders(ctx.settings.run_folder, set())
    _reap()
    try:
        with reading(ctx.engine) as session:
            run = session.get(Run, run_id)
        if run and run.owner == _owner and run.status in (RunStatus.RUNNING, RunStatus.CANCELING):
            settle_lost(ctx, run_id, _owner, "its work-horse died")
    except StopRequested:
        raise
    except Exception as error:
        # the keeper will find the lease unrenewed and settle it
        log.error("Cannot settle a dead run", run_id=run_id, error=str(error))


def _reap() -> None:
    """Take leave of the dead that came to us as a subreaper, or they stay zombies for ever."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def bury_strays(ctx: Context) -> None:
    """At the start: end the processes of runs whose worker died before us on this machine."""
    for run_id in {process.run_id for process in find_processes(root=ctx.settings.run_folder)}:
        with reading(ctx.engine) as session:
            run = session.get(Run, run_id)
        if run is None or not _owner_lives(run.owner):
            kill_strays(run_id, GRACE, ctx.settings.run_folder)
            if run and run.status in (RunStatus.RUNNING, RunStatus.CANCELING):
                settle_lost(ctx, run_id, run.owner, "its worker died")
    clean_folders(ctx.settings.run_folder, set())


def _owner_lives(owner: str) -> bool:
    """Whether the worker of that name is a process of this machine that still lives."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != worker_name().partition(":")[0] or not pid.isdigit():
        return True  # another machine's: its lease tells
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def _become_subreaper() -> None:
    """Whatever a dead horse leaves behind becomes our child, not init's."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def die_with_parent() -> None:
    """Nothing of a run outlives the worker: the kernel ends us when it dies."""
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, int(value), 0, 0, 0)
