"""Let one of Ansible's worker processes work for several hosts.

Ansible forks a process for each host and task, and each pays anew for the memory it comes to share
no longer and for what is made once per process: compiled templates, loaded plugins. A crew is one
such process in which every host has a thread. The threads take turns, because Ansible's own code
is not made for threads: the turn is handed on only where one waits for ssh, a local command or
sleeps, and there nothing is held that another could find half done. Whatever else one waits for,
the others of its crew wait for too.
"""

import contextlib
import copy
import io
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from ansible._internal import _task
from ansible._internal._errors._task_timeout import TaskTimeoutError
from ansible.errors import AnsibleError
from ansible.executor.process import worker
from ansible.executor.process.worker import WorkerProcess
from ansible.plugins import loader, strategy
from ansible.plugins.strategy.linear import StrategyModule

TOGETHER = 10  # hosts of a crew; the first waits until the others' variables are there

_turn = threading.Lock()
_here = threading.local()  # of a thread: `member`, `has_turn`, and `limit` while one is set


def form_crews() -> None:
    """Have Ansible's workers work together from now on.

    Only those of the linear strategy, in which it shows when nothing more will be queued.
    """
    queue_task = StrategyModule._queue_task
    process_results = StrategyModule._process_pending_results
    hiring = _Hiring()

    class Worker(Member):
        def start(self) -> None:
            hiring.add(self)

        def is_alive(self) -> bool:
            hiring.end_if_waiting(self)
            return super().is_alive()

    def queue_and_wait(self: Any, *arguments: Any) -> None:
        with hiring.open():
            queue_task(self, *arguments)  # type: ignore[no-untyped-call]

    def process(self: Any, iterator: Any, *limits: Any, **more: Any) -> Any:
        if not limits and not more:  # nothing else is to be queued before there are results
            hiring.end()
        return process_results(self, iterator, *limits, **more)

    strategy.WorkerProcess = Worker  # type: ignore[attr-defined]
    StrategyModule._queue_task = queue_and_wait  # type: ignore[method-assign]
    StrategyModule._process_pending_results = process  # type: ignore[method-assign]


class Member(WorkerProcess):
    """The worker of one host: a process of its own, or a thread in that of its crew's first."""

    crew: "tuple[Member, ...]" = ()  # known to the first, in its process
    number = 0  # within the crew
    ended: mmap.mmap | None = None  # a byte for each of the crew, shared with its process

    def begin(self, crew: "tuple[Member, ...]") -> None:
        """Start the process of this crew, whose first we are."""
        self.crew = crew
        try:
            ended = mmap.mmap(-1, len(crew))
            for number, member in enumerate(crew):
                member.number, member.ended = number, ended
            super().start()
        except OSError as error:  # Ansible would take it for an abort, and wait forever
            raise AnsibleError(f"No process can be started for a task: {error}") from error
        finally:
            self.crew = ()  # a circle that nobody would collect here, and a pipe in each of it
        for member in crew[1:]:
            member._popen, member._sentinel = self._popen, self._sentinel

    def is_alive(self) -> bool:
        """Whether our host's task still goes on, whatever becomes of the others'."""
        return not (self.ended and self.ended[self.number]) and bool(super().is_alive())

    def close(self) -> None:
        """Let go of the process, unless others of the crew still need it."""
        if not super().is_alive():
            super().close()

    def _run(self) -> None:
        if len(self.crew) < 2:
            super()._run()
            return
        _take_turns_at_waiting()
        threads = [threading.Thread(target=member._work) for member in self.crew]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        """Do in a thread what a process of our own would do."""
        _here.member = self
        with _my_turn():
            try:
                # They are changed by whoever works with them, and would be shared.
                self._task = self._task.copy(exclude_tasks=True)
                self._host = copy.copy(self._host)
                with _task.TaskContext(self._task):
                    super()._run()
                _forget_output()
            except BaseException:
                with contextlib.suppress(OSError):
                    os.killpg(0, signal.SIGTERM)  # what the others of the crew have started
                self._hard_exit(traceback.format_exc())
        assert self.ended
        self.ended[self.number] = 1


class _Hiring:
    """Collects those that are queued one after the other, until they are a crew."""

    def __init__(self) -> None:
        self._is_open = False
        self._waiting: list[Member] = []

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """While a task is queued that may be followed by others."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    def add(self, member: Member) -> None:
        if not self._is_open:
            member.begin((member,))
            return
        self._waiting.append(member)
        if len(self._waiting) >= TOGETHER:
            self.end()

    def end_if_waiting(self, member: Member) -> None:
        """Somebody asks for a free place, and there is none: this one would wait forever."""
        if self._is_open and member in self._waiting:
            self.end()

    def end(self) -> None:
        """Nobody else will come for now."""
        if crew := tuple(self._waiting):
            self._waiting.clear()
            crew[0].begin(crew)


# --- Within the process of a crew -------------------------------------------------------------


class _Limit:
    """How long a member's task may take; beyond it, the command it waits for is ended."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.is_over = False
        self._command: subprocess.Popen[Any] | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, command: "subprocess.Popen[Any]") -> None:
        self._command = command
        if self.is_over:
            _kill(command)

    def lift(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        if self._command:
            _kill(self._command)


def _kill(command: "subprocess.Popen[Any]") -> None:
    """End a command with all it has started: a shell's work holds on to the shell's output."""
    import psutil  # hardly ever needed, and no run is to wait for it

    with contextlib.suppress(psutil.NoSuchProcess):
        if command.poll() is None:
            family = psutil.Process(command.pid)
            for process in (*family.children(recursive=True), family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def _forget_output() -> None:
    """What one printed is its own; Ansible blames whoever ends next for what it finds."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.StringIO):
            stream.seek(0)
            stream.truncate()


def _take_turns_at_waiting() -> None:
    """Hand on the turn while one waits, and let Ansible's limit of time work in a thread."""
    ssh = loader.connection_loader.get("ssh", class_only=True)  # type: ignore[no-untyped-call]
    ssh._bare_run = _with_others_at_work(ssh._bare_run)
    local = loader.connection_loader.get("local", class_only=True)  # type: ignore[no-untyped-call]
    local.exec_command = _with_others_at_work(local.exec_command)
    time.sleep = _with_others_at_work(time.sleep)
    subprocess.Popen = _Command  # type: ignore[misc]
    TaskTimeoutError.alarm_timeout = _limited  # type: ignore[method-assign,assignment]


@contextlib.contextmanager
def _my_turn() -> Iterator[None]:
    with _turn:
        _here.has_turn = True
        try:
            yield
        finally:
            _here.has_turn = False


def _with_others_at_work(wait: Any) -> Any:
    def wait_without_the_turn(*arguments: Any, **more: Any) -> Any:
        if not getattr(_here, "has_turn", False):
            return wait(*arguments, **more)  # within another wait, or not a member's thread
        limit: _Limit | None = getattr(_here, "limit", None)
        _turn.release()
        _here.has_turn = False
        try:
            said = wait(*arguments, **more)
        finally:
            is_late = limit and limit.is_over  # the wait for the turn is not the host's fault
            _turn.acquire()
            _here.has_turn = True
            worker.current_worker = _here.member  # whom an answer to a question is for
            if limit and is_late:
                raise TaskTimeoutError(limit.seconds)
        return said

    return wait_without_the_turn


class _Command(subprocess.Popen[Any]):
    """A command that does not outlast the time of the task it belongs to."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if limit := getattr(_here, "limit", None):
            limit.watch(self)


@contextlib.contextmanager
def _limited(seconds: int | None) -> Iterator[None]:
    """In place of Ansible's own, which needs a signal and therefore a process."""
    if not seconds:
        yield
        return
    _here.limit = limit = _Limit(seconds)
    try:
        yield
    finally:
        _here.limit = None
        limit.lift()
