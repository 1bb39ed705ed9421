"""Find, end and prove ended the processes of a run, whoever started them and wherever they went.

A process of a run carries HOSTLER_RUN and HOSTLER_FOLDER in its environment. The one exception are
ssh's connection masters, which write their title over their environment; the title names the
control socket, and that lies in the run's folder.
"""

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PROC = "/proc"
RUN_FOLDER = re.compile(r"r(\d+)-(\d+)-\w+")
MASTER = re.compile(rb"^ssh: (/.*)/cp/(?:host_(?P<host>\d+)|jump_\w+) \[mux\]")
CLIENT = re.compile(rb'ControlPath="?/[^"\0]*/cp/(?:host_(?P<host>\d+)|jump_\w+)"?(?:\0|$)')
KILLED_WITHIN = 2.0  # seconds; SIGKILL itself is immediate unless the process hangs in the kernel


class RunProcess(NamedTuple):
    """A living process of a run."""

    pid: int
    run_id: int
    folder: str
    is_ssh: bool  # a client or a master of a shared connection
    host_id: int | None  # the host an ssh serves; None: a jump for several


def stray_pids(run_id: int | None = None, root: Path | None = None) -> list[int]:
    """Processes of this run, or of any; `root`: only those whose folder lies there.

    Two installations on one machine count their runs alike, so name the root wherever it is known.
    """
    return [process.pid for process in find_processes(run_id, root)]


def kill_strays(run_id: int | None, grace: float, root: Path | None = None) -> bool:
    """End every process of the run, or of all runs there; True when none is left."""
    return end_processes(lambda: find_processes(run_id, root), grace)


def find_processes(run_id: int | None = None, root: Path | None = None) -> list[RunProcess]:
    """The living processes of this run, or of any run, whose folder lies in `root`."""
    within = f"{root.absolute()}/" if root else ""
    return [
        process
        for process in _run_processes()
        if (run_id is None or process.run_id == run_id) and process.folder.startswith(within)
    ]


def processes_in(folder: Path) -> list[RunProcess]:
    """The living processes of the one run that has this folder."""
    return [process for process in _run_processes() if process.folder == str(folder.absolute())]


def end_processes(find: Callable[[], Iterable[RunProcess]], grace: float) -> bool:
    """SIGTERM, grace, SIGKILL; True when `find` finds none any more."""
    return (
        _signal_until_gone(find, signal.SIGTERM, grace)
        or _signal_until_gone(find, signal.SIGKILL, KILLED_WITHIN)
        or not list(find())
    )


def _signal_until_gone(
    find: Callable[[], Iterable[RunProcess]], number: signal.Signals, seconds: float
) -> bool:
    """Signal each process once, those that appear later too; True as soon as none is left."""
    deadline = time.monotonic() + seconds
    signalled: set[int] = set()
    while pids := {process.pid for process in find()}:
        for pid in pids - signalled:
            send_signal(pid, number)
        signalled |= pids
        if time.monotonic() >= deadline:
            return False
        wait_for_one(pids, min(0.2, max(0.0, deadline - time.monotonic())))
    return True


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for_one(pids: Iterable[int], seconds: float) -> None:
    """Wait until one of these has ended, but not longer."""
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            stack.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)


def start_time(pid: int) -> str | None:
    """When the process began, in the kernel's ticks: with the pid its identity; None: no such."""
    return _stat(pid, 19)


def parent(pid: int) -> int | None:
    """The process that started it, or adopted it; None: no such process."""
    return int(found) if (found := _stat(pid, 1)) else None


def _stat(pid: int, field: int) -> str | None:
    try:
        return _content(f"{PROC}/{pid}/stat").decode().rpartition(")")[2].split()[field]
    except OSError:
        return None


def _run_processes() -> Iterator[RunProcess]:
    for entry in os.listdir(PROC):
        if entry.isdigit() and (process := _examine(int(entry))):
            yield process


def _examine(pid: int) -> RunProcess | None:
    """One read for most processes: a machine may have thousands, and stopping asks often."""
    try:
        environment = _content(f"{PROC}/{pid}/environ")
        if b"HOSTLER_RUN=" in environment:
            return _member(pid, environment, _content(f"{PROC}/{pid}/cmdline"))
        if not environment.startswith(b"\0"):
            return None  # not overwritten, so no master
        title = MASTER.match(_content(f"{PROC}/{pid}/cmdline"))
        return _master(pid, title) if title else None
    except OSError:
        return None  # ended meanwhile, or not ours


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def _member(pid: int, environment: bytes, command: bytes) -> RunProcess | None:
    variables = dict(item.split(b"=", 1) for item in environment.split(b"\0") if b"=" in item)
    run_id = variables.get(b"HOSTLER_RUN", b"")
    if not run_id.isdigit():
        return None
    ssh = MASTER.match(command) or CLIENT.search(command)
    return RunProcess(
        pid=pid,
        run_id=int(run_id),
        folder=os.fsdecode(variables.get(b"HOSTLER_FOLDER", b"")),
        is_ssh=ssh is not None,
        host_id=_host_of(ssh) if ssh else None,
    )


def _master(pid: int, title: re.Match[bytes]) -> RunProcess | None:
    folder = os.fsdecode(title[1])
    name = RUN_FOLDER.fullmatch(Path(folder).name)
    if name is None:
        return None
    return RunProcess(pid, int(name[1]), folder, is_ssh=True, host_id=_host_of(title))


def _host_of(ssh: re.Match[bytes]) -> int | None:
    return int(ssh["host"]) if ssh["host"] else None
