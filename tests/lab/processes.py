"""Start, find and end the processes of lab hosts, each host in a cgroup of its own."""

import contextlib
import os
import select
import signal
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Where a host gets a cgroup: the whole tree on cgroup v2, three trees on v1 and hybrid."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    trees = [CGROUPS / name for name in ("systemd", "unified", "cpuacct")]
    return [tree for tree in trees if (tree / "cgroup.procs").exists()]


def make_cgroup(path: str) -> list[Path]:
    """The files a process writes its id to in order to live in this cgroup."""
    for tree in hierarchies():
        (tree / path).mkdir(parents=True, exist_ok=True)
    return [tree / path / "cgroup.procs" for tree in hierarchies()]


def joining(cgroup: str, argv: list[str]) -> list[str]:
    """The command, made to run inside a cgroup from its first instruction on."""
    files = " ".join(str(file) for file in make_cgroup(cgroup))
    return ["sh", "-c", f'for file in {files}; do echo $$ >"$file"; done; exec "$@"', "sh", *argv]


def pids_in(path: str) -> set[int]:
    """Every process in a cgroup or below it."""
    pids: set[int] = set()
    for tree in hierarchies():
        for folder in _with_those_below(tree / path):
            with contextlib.suppress(OSError):  # it went away meanwhile
                pids.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return pids - {0}


def _with_those_below(folder: Path) -> list[Path]:
    """It and every cgroup below it, outer ones first; pathlib would stumble over one that goes."""
    return [Path(found) for found, _, _ in os.walk(folder)]


def remove_cgroup(path: str) -> None:
    """Remove a cgroup whose processes have ended."""
    for tree in hierarchies():
        for folder in reversed(_with_those_below(tree / path)):
            _remove_when_empty(folder)


def _remove_when_empty(folder: Path) -> None:
    """A dead process keeps its cgroup busy until its parent reaps it, which nothing announces."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                return None  # an empty cgroup hurts nobody; the next lab of this name takes it over
            select.select([], [], [], 0.01)


def kill(pids: set[int]) -> None:
    """SIGKILL exactly these processes and return when all of them have ended."""
    handles = [handle for pid in pids if (handle := _open(pid)) is not None]
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles:
        wait_for_exit(handle, 10)
        os.close(handle)


def wait_for_exit(handle: int, seconds: float) -> bool:
    """Whether the process behind this pidfd ends in time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def of_host(cgroup: str, init: int) -> dict[int, str]:
    """What runs on the host whose first process is `init`: id here, and command line."""
    namespace = os.readlink(f"/proc/{init}/ns/pid")
    found = {}
    for pid in pids_in(cgroup):  # nspawn is in there too, and lives outside the host
        with contextlib.suppress(OSError):  # ended while we looked
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                found[pid] = command_line(pid)
    return found


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def started_at(pid: int) -> str | None:
    """When a process started; with its id this names it for good, as ids are used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None
