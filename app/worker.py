"""A worker: takes runs from the queue, one work-horse each, and buries what a dead horse leaves."""

import ctypes
import gc
import os
import signal
from contextlib import suppress

from redis import RedisError
from rq import Queue, Worker
from rq.job import Job

from app.automation.processes import find_processes, kill_strays
from app.automation.runner import clean_folders
from app.domain.states import RunStatus
from app.jobs.claim import worker_name
from app.jobs.context import Context
from app.jobs.execute import execute_run
from app.jobs.rehearse import rehearse
from app.jobs.settle import settle_lost
from app.log import log
from app.models.base import reading
from app.models.work import Run

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE = 3.0  # seconds between asking a process to end and ending it

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
    die_with_parent()
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
    """RQ's worker, which outlives Redis and settles what its horse could not."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        run_id = int(job.kwargs.get("run_id", 0))
        assert _context is not None
        # a connection that is open here would break in the horse; Redis's pool sees to that itself
        _context.engine.dispose()
        try:
            super().execute_job(job, queue)
        except RedisError as error:
            log.warning("Redis went away during a run", run_id=run_id, error=str(error))
            self._await_horse()
        finally:
            bury(run_id)

    def _await_horse(self) -> None:
        """The run needs no Redis: let it end."""
        if self.horse_pid:
            self.wait_for_horse()
            self._horse_pid = 0

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        die_with_parent()
        super().main_work_horse(job, queue)


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
