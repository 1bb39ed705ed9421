"""Small agents in packages of their own, and what is seen of an agent on the host it runs on."""

import re
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from app.jobs.context import Context
from app.models.base import transaction
from app.models.package import Package
from app.packages.add import add_package
from app.packages.build import build_package
from app.packages.prefer import prefer_package
from tests.lab.hosts import LabHost

UNIT = "hostler-agent.service"
HOME = "/opt/hostler/agent"
GATE = "/run/hostler-gate"  # a reset removes it

STEADY = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "labagent, version 1.0"; exit; fi
exec sleep infinity
"""
DOOMED = """\
#!/bin/sh
echo 'licence file not found' >&2
exit 3
"""
# Becomes ready when the gate is opened: a test decides how long an install is in the middle.
GATED = f"""\
#!/usr/bin/python3
import os, socket, time
while not os.path.exists({GATE!r}):
    time.sleep(0.1)
server = socket.create_server(("", 7007))
while True:
    server.accept()[0].close()
"""

CONFIG = """\
BT_SPEED_LIMIT=${bt_speed_limit}
PEER_EXCHANGE_SWITCH_FOR_AGENT=${peer_exchange_switch_for_agent}
ENABLE_COMPRESSION=${enable_compression}
DATA_PATH=${data_path}
"""

MANIFEST: dict[str, Any] = {
    "name": "labagent",
    "kind": "agent",
    "os": "LINUX",
    "cpu": "x86_64",
    "description": "An agent that does nothing",
    "exec": ["bin/agent", "--data=${data}"],
    "config": [{"path": "agent.env", "format": "env", "source": "etc/agent.env"}],
    "environment": "agent.env",
    "defaults": {
        "bt_speed_limit": 0,
        "peer_exchange_switch_for_agent": 0,
        "enable_compression": False,
    },
    "ready": {"kind": "none"},
    "stays_up": 0.3,
    "stop_timeout": 5,
}
NEVER_READY = {"ready": {"kind": "tcp", "port": 7007, "within": 2}}
WHEN_OPENED = {"ready": {"kind": "tcp", "port": 7007, "within": 120}}


class Agents:
    """The agents an installation can put on hosts, made when they are first asked for."""

    def __init__(self, ctx: Context, folder: Path) -> None:
        self.ctx = ctx
        self.folder = folder / "agents"
        self.made: set[str] = set()

    def steady(self, version: str = "1.0.0", **manifest: Any) -> str:
        """An agent that runs; answers its version."""
        return self._made(version, STEADY, **manifest)

    def doomed(self, version: str = "2.0.0") -> str:
        """An agent that exits at once."""
        return self._made(version, DOOMED, stays_up=2)

    def silent(self, version: str = "2.1.0") -> str:
        """An agent that runs but never answers."""
        return self._made(version, STEADY, **NEVER_READY)

    def gated(self, version: str = "3.0.0") -> str:
        """An agent that becomes ready when its host's gate is opened."""
        return self._made(version, GATED, **WHEN_OPENED)

    def _made(self, version: str, program: str, **manifest: Any) -> str:
        if version in self.made:
            return version
        self.made.add(version)
        tree = self.folder / version
        for path, text in (("bin/agent", program), ("etc/agent.env", CONFIG)):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        (tree / "bin/agent").chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH)
        described = MANIFEST | {"version": version} | manifest
        (tree / "hostler-package.yaml").write_text(yaml.safe_dump(described))
        archive = build_package(tree, self.folder)
        with transaction(self.ctx.engine) as session:
            package = add_package(session, archive)
            if version == "1.0.0":
                prefer_package(session, package)
        return version

    def package(self, version: str) -> Package:
        with transaction(self.ctx.engine) as session:
            found = session.query(Package).filter_by(version=version).one()
            session.expunge(found)
            return found


# --- Looking ------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """An agent, as its host's own service manager and disk have it."""

    state: str
    pid: int
    version: str  # of the current release; empty: there is none


LOOK = f"""\
systemctl show {UNIT} --property=ActiveState,MainPID
readlink {HOME}/current
"""


def look_at_agent(host: LabHost) -> Seen:
    lines = host.run("sh", "-c", LOOK, check=False).stdout.split()
    shown = dict(line.split("=", 1) for line in lines if "=" in line)
    release = next((line for line in lines if line.startswith("releases/")), "")
    version = release.removeprefix("releases/").rpartition("-")[0]
    return Seen(shown["ActiveState"], int(shown["MainPID"]), version)


def look_at_agents(hosts: Sequence[LabHost]) -> dict[str, Seen]:
    return dict(zip((host.address for host in hosts), on_all(look_at_agent, hosts), strict=True))


def on_all(look: Any, hosts: Iterable[LabHost]) -> list[Any]:
    """The same on many hosts, some at a time."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(look, hosts))


def open_gates(hosts: Iterable[LabHost]) -> None:
    on_all(lambda host: host.write(GATE, ""), hosts)


def close_gates(hosts: Iterable[LabHost]) -> None:
    on_all(lambda host: host.run("rm", "-f", GATE), hosts)


def config_of(host: LabHost) -> dict[str, str]:
    """The agent's rendered configuration, as a shell reads it."""
    read = f"set -a; . {HOME}/etc/agent.env; exec /usr/bin/env -0"
    said = host.run("env", "-i", "/bin/sh", "-c", read).stdout.rstrip("\0").split("\0")
    return {name: value for name, value in (line.split("=", 1) for line in said) if name != "PWD"}


def work_on(host: LabHost) -> list[str]:
    """The processes of a run on this host: sessions and whatever they started, not the agent."""
    return [
        command
        for command in host.processes()
        if re.match(r"sshd: \w+(@|\b.*\[priv\])|sudo |/bin/sh -c|/usr/bin/python3", command)
        and HOME not in command
    ]


def is_starting(host: LabHost) -> bool:
    """Whether a run is in the middle on this host: it works there, and its agent runs already."""
    commands = host.processes()
    return any(f"{HOME}/releases" in c or f"{HOME}/current" in c for c in commands) and bool(
        work_on(host)
    )


class LockNote(NamedTuple):
    """A line of the host's own lock log."""

    at: datetime
    deed: str
    action: str
    pid: int
    run: int
    task: int


NOTE = re.compile(r"(\S+)Z (\w+) (\w+) pid=(\d+) run=(\d+) task=(\d+)")


def lock_log(host: LabHost) -> list[LockNote]:
    text = host.run("cat", "/run/hostler/log", check=False).stdout
    return [
        LockNote(
            datetime.fromisoformat(found[1]).replace(tzinfo=UTC),
            found[2], found[3], int(found[4]), int(found[5]), int(found[6]),
        )
        for found in map(NOTE.match, text.splitlines())
        if found
    ]  # fmt: skip


IS_FREE = "[ ! -e /run/hostler/lock ] || flock --nonblock /run/hostler/lock true"


def look_at_locks(hosts: Sequence[LabHost]) -> list[str]:
    """What runs left on these hosts: processes, and locks that are held."""

    def look(host: LabHost) -> list[str]:
        left = [f"{host.address} runs {command}" for command in work_on(host)]
        if host.run("sh", "-c", IS_FREE, check=False).returncode:
            left.append(f"{host.address}: its lock is held: {host.read('/run/hostler/lock')}")
        return left

    return [line for lines in on_all(look, hosts) for line in lines]
