"""Keep programs alive: start them, start them again when they die, stop them in order."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psutil

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
WATCHED = STOP_SIGNALS | {signal.SIGCHLD}
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
READY_POLL = 0.1  # seconds between looks while not yet ready
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds before a dead program is started again
PROVEN_AFTER = 60.0  # seconds alive after which a death counts as the first again
DIED_YOUNG = 5.0  # seconds; what ends so soon may have found something it cannot read
ORPHAN_GRACE = 3.0  # seconds a dead program's leftover has before SIGKILL
LAST_GRACE = 6.0  # seconds after the second SIGTERM before SIGKILL

libc = ctypes.CDLL(None, use_errno=True)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Program:
    """One thing to keep running; those of the lowest rank are stopped first."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    rank: int = 0
    patience: float = 3.0  # seconds it has to stop by itself before it is told again
    is_errand: bool = False  # runs to its end once
    death_signal: signal.Signals = signal.SIGTERM  # what it gets when its supervisor is killed
    mend: Callable[[], str] | None = None  # after it died young: what was mended, in words


class Child:
    """A program and the process it is at the moment."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.due_at: float | None = 0.0  # when to start it (again); None: not at all
        self.delay = FIRST_DELAY
        self.stop_at = 0.0  # when its patience is over

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.program.command,
            env={**os.environ, **self.program.environment},
            pass_fds=self.program.pass_fds,
            stdin=subprocess.DEVNULL,
            process_group=0,  # a Ctrl-C in the terminal is for the supervisor alone
            preexec_fn=_tie_to_supervisor(self.program.death_signal),
        )
        self.started_at, self.due_at = time.monotonic(), None

    def has_ended(self, status: int) -> None:
        assert self.process
        self.process.returncode = os.waitstatus_to_exitcode(status)  # we waited in its stead
        self.process = None

    def wait_before_next_start(self) -> float:
        """Plan the next start, later each time it dies young; return the delay."""
        now = time.monotonic()
        if now - self.started_at > PROVEN_AFTER:
            self.delay = FIRST_DELAY
        delay, self.delay = self.delay, min(self.delay * 2, LONGEST_DELAY)
        self.due_at = now + delay
        return delay


class Supervisor:
    """The parent of all programs: nothing they start outlives it."""

    def __init__(self, programs: Iterable[Program], say: Say) -> None:
        self.children = [Child(program) for program in programs]
        self.say = say
        self.orphans: dict[int, float] = {}  # pid → when it gets SIGKILL
        self.must_stop = self.must_hurry = False

    def run(self, is_ready: Callable[[], bool], on_ready: Callable[[], None]) -> None:
        """Keep everything running until a stop signal; then stop it all."""
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        old = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            self._keep_running(is_ready, on_ready)
        finally:
            self._stop_all()
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def _keep_running(self, is_ready: Callable[[], bool], on_ready: Callable[[], None]) -> None:
        waits_for_ready = True
        while not self.must_stop:
            self._start_due()
            if waits_for_ready and is_ready():
                waits_for_ready = False
                on_ready()
            self._wait(READY_POLL if waits_for_ready else self._until_next_due())
            self._kill_late_orphans()

    def _start_due(self) -> None:
        for child in self.children:
            if child.due_at is not None and child.due_at <= time.monotonic():
                child.start()

    def _until_next_due(self) -> float:
        moments = [c.due_at for c in self.children if c.due_at is not None]
        moments += self.orphans.values()
        return max(0.01, min(moments, default=time.monotonic() + 60) - time.monotonic())

    def _wait(self, seconds: float) -> None:
        """Until a signal came or the time is over."""
        received = signal.sigtimedwait(WATCHED, max(seconds, 0.0))
        if received and received.si_signo in STOP_SIGNALS:
            self.must_hurry = self.must_stop
            self.must_stop = True
        self._reap()

    def _reap(self) -> None:
        while ended := _next_dead():
            pid, status = ended
            self.orphans.pop(pid, None)
            child = next((child for child in self.children if child.pid == pid), None)
            if child:
                child.has_ended(status)
                self._after_end(child, status)
            self._adopt_orphans()

    def _after_end(self, child: Child, status: int) -> None:
        if self.must_stop:
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if not child.program.is_errand:
            delay = child.wait_before_next_start()
            self.say(f"{child.program.name} {how}; starting it again in {delay:g} s")
            died_young = time.monotonic() - child.started_at < DIED_YOUNG
            if child.program.mend and died_young and (mended := child.program.mend()):
                self.say(mended)
        elif code:
            self.say(f"{child.program.name} {how}")

    def _adopt_orphans(self) -> None:
        """What a dead program left behind became our child; nobody else will end it."""
        known = {child.pid for child in self.children}
        for leftover in psutil.Process().children():
            if leftover.pid not in known and leftover.pid not in self.orphans:
                self.orphans[leftover.pid] = time.monotonic() + ORPHAN_GRACE
                _send(leftover.pid, signal.SIGTERM)

    def _kill_late_orphans(self) -> None:
        for pid, due_at in list(self.orphans.items()):
            if due_at <= time.monotonic():
                _send(pid, signal.SIGKILL)
                del self.orphans[pid]

    def _stop_all(self) -> None:
        self.must_stop = True
        for rank in sorted({child.program.rank for child in self.children}):
            self._stop([c for c in self.children if c.program.rank == rank])
        while leftovers := psutil.Process().children(recursive=True):
            for leftover in leftovers:
                _send(leftover.pid, signal.SIGKILL)
            self._wait(0.05)

    def _stop(self, children: list[Child]) -> None:
        """Ask; ask again where that means "drop what you do"; then end it."""
        for child in children:
            child.stop_at = time.monotonic() + child.program.patience
            _send(child.pid, signal.SIGTERM)
        insisted: set[int] = set()
        while running := [child for child in children if child.pid]:
            for child in running:
                self._insist(child, insisted)
            self._wait(0.1)

    def _insist(self, child: Child, insisted: set[int]) -> None:
        late = time.monotonic() - child.stop_at
        if self.must_hurry or late > LAST_GRACE:
            _send(child.pid, signal.SIGKILL)
        elif late > 0 and child.pid not in insisted and child.pid is not None:
            insisted.add(child.pid)
            _send(child.pid, signal.SIGTERM)


def _next_dead() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _send(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it was faster


def _tie_to_supervisor(death_signal: signal.Signals) -> Callable[[], None]:
    supervisor = os.getpid()

    def tie() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != supervisor:  # it died before we were tied to it
            os._exit(1)

    return tie
