"""Count the CPU that a tree of processes uses, and nothing else of the machine.

A cgroup of its own counts exactly, also what has ended and what left its parents. Where there is
none, the times of the living processes and of the children they have reaped are added up.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.lab import processes

FOLDER = "hostler-bench"
V1 = Path("/sys/fs/cgroup/cpuacct")
V2 = Path("/sys/fs/cgroup")


class CpuMeter:
    """CPU seconds of everything started inside `counting`, and of all that came of it."""

    def __init__(self, name: str) -> None:
        self.path = f"{FOLDER}/{name}-{os.getpid()}"
        self.tree = next((t for t in (V1, V2) if _is_usable(t)), None)
        self.roots: list[int] = []
        if self.tree:
            (self.tree / self.path).mkdir(parents=True, exist_ok=True)

    @property
    def kind(self) -> str:
        return {V1: "cgroup v1 cpuacct", V2: "cgroup v2 cpu.stat"}.get(self.tree or Path(), "/proc")

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """What this process starts in here is counted, now and for ever after."""
        before = {child.pid for child in psutil.Process().children()}
        home = _own_cgroup(self.tree)
        self._move(self.path)
        try:
            yield
        finally:
            self._move(home)
            self.roots += [c.pid for c in psutil.Process().children() if c.pid not in before]

    def seconds(self) -> float:
        """How much has been used up to now."""
        if self.tree == V1:
            return int((V1 / self.path / "cpuacct.usage").read_text()) / 1e9
        if self.tree == V2:
            lines = (V2 / self.path / "cpu.stat").read_text().split()
            return int(lines[lines.index("usage_usec") + 1]) / 1e6
        return sum(_of_tree(pid) for pid in self.roots)

    def close(self) -> None:
        if self.tree:
            processes.remove_cgroup(self.path)

    def _move(self, cgroup: str) -> None:
        if self.tree:
            (self.tree / cgroup.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


def clear_leftovers() -> None:
    """End what is left of measurements whose own process was killed."""
    tree = next((t for t in (V1, V2) if _is_usable(t)), None)
    for group in (tree / FOLDER).glob("*-*") if tree else ():
        owner = group.name.rpartition("-")[2]
        if group.is_dir() and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            processes.kill(processes.pids_in(f"{FOLDER}/{group.name}"))
            processes.remove_cgroup(f"{FOLDER}/{group.name}")


def cpu_by_role(root: int) -> dict[str, float]:
    """CPU seconds by what the children of `hostler up` are for; the ended below them included."""
    used: dict[str, float] = {}
    for child in psutil.Process(root).children():
        with contextlib.suppress(psutil.Error):
            role = _role(" ".join(child.cmdline()))
            used[role] = used.get(role, 0.0) + _of_tree(child.pid)
    return used


def _role(command: str) -> str:
    roles = {
        "app.wsgi:api": "API",
        "app.wsgi:packages": "packages",
        "app.cli worker": "workers",
        "redis-server": "Redis",
        "valkey-server": "Redis",
    }
    return next((role for words, role in roles.items() if words in command), "other")


def _of_tree(pid: int) -> float:
    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += sum(each.cpu_times()[:4])  # its own, and of children that were reaped
    return total


def _is_usable(tree: Path) -> bool:
    statistic = "cpuacct.usage" if tree == V1 else "cpu.stat"
    return (tree / statistic).exists() and os.access(tree / "cgroup.procs", os.W_OK)


def _own_cgroup(tree: Path | None) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(",") if tree == V1 else controllers == "":
            return path
    return "/"
