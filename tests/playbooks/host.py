"""This machine as a host: a private root folder, and the role's code run as Ansible runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.ports import keep_port, port_of

CHECKOUT = Path(__file__).resolve().parents[2]
ROLE_CODE = CHECKOUT / "roles/package/files"

# What a host has: outside any virtual environment, and for every account.
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
Hosts = Mapping[str, dict[str, Any]]
NOBODY: Hosts = MappingProxyType({})
CLEAN = {"PYTHONDONTWRITEBYTECODE": "1"}

DRIVER = """\
import json, os, sys
from hostler.watch import Watch
from hostler.work import perform
said = json.loads(sys.stdin.readline())
fatal, replace = said["dies_before"], os.replace
def replace_or_die(source, target):
    if os.path.basename(target) == fatal:
        os.kill(os.getpid(), 9)
    replace(source, target)
os.replace = replace_or_die
watch = Watch(said["arguments"].get("deadline"))
watch.listen()
print("\\n" + json.dumps(perform(said["arguments"], said["check_mode"], watch)), flush=True)
"""


class Host:
    """A host without systemd and without root, as HOSTLER_ROOT makes one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "opt/hostler/agent"
        self.port_keeper = keep_port()
        self.port = port_of(self.port_keeper)
        self.begun: list[subprocess.Popen[str]] = []
        self.environment = {"PATH": os.environ["PATH"], "HOSTLER_ROOT": str(root)}

    # --- acting -------------------------------------------------------------------------------

    def perform(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Do one action and wait for its result."""
        return self.result_of(self.begin(action, **arguments))

    def begin(
        self,
        action: str,
        *,
        check_mode: bool = False,
        user: int | None = None,
        dies_before: str | None = None,
        **arguments: Any,
    ) -> subprocess.Popen[str]:
        """Begin one action in a process of its own; it may be killed before it writes a file."""
        config = {"port": self.port, "address": "127.0.0.1", **arguments.pop("config", {})}
        arguments = {
            "action": action,
            "name": "agent",
            "setup_path": "/opt/hostler",
            "service_manager": "auto",
            "config": config,
            "deadline": 60,
            **arguments,
        }
        process = subprocess.Popen(
            [PYTHON, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            env={**self.environment, "PYTHONPATH": str(ROLE_CODE), **CLEAN},
        )
        self.begun.append(process)
        assert process.stdin
        said = {"arguments": arguments, "check_mode": check_mode, "dies_before": dies_before}
        process.stdin.write(json.dumps(said, default=str) + "\n")
        process.stdin.flush()
        return process

    def result_of(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, error = process.communicate(timeout=60)
        assert out.strip(), error
        result: dict[str, Any] = json.loads(out)
        return result

    def playbook(self, name: str, *options: str, **variables: Any) -> dict[str, Any]:
        """Run one of our playbooks here, as an operator would; the result of its one task."""
        return self.play(CHECKOUT / f"playbooks/{name}.yml", *options, **variables)

    def play(
        self, playbook: Path, *options: str, others: Hosts = NOBODY, **variables: Any
    ) -> dict[str, Any]:
        """Run a playbook here, perhaps beside other hosts; the result of its one task."""
        return task_result(self.play_all(playbook, *options, others=others, **variables))

    def play_all(
        self, playbook: Path, *options: str, others: Hosts = NOBODY, **variables: Any
    ) -> str:
        """Run a playbook here and on these other hosts; what it printed."""
        inventory = self.root.parent / "inventory.json"
        config = {"port": self.port, "address": "127.0.0.1", **variables.pop("hostler_config", {})}
        host = {"ansible_connection": "local", "hostler_config": config, **variables}
        inventory.write_text(
            json.dumps({"all": {"hosts": {"host_1": host, **others}}}, default=str)
        )
        done = subprocess.run(
            [*ansible_playbook(), "-v", "-i", str(inventory), str(playbook), *options],
            cwd=CHECKOUT,
            env={**os.environ, **self.environment, **QUIET},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout

    # --- looking ------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The agent's process id, when it runs."""
        try:
            pid: int = json.loads((self.base / "run.pid").read_text())["pid"]
        except (OSError, ValueError):
            return None
        return pid if is_running(pid) else None

    @property
    def release(self) -> str | None:
        """The version that is current."""
        link = self.base / "current"
        return link.resolve().name.rpartition("-")[0] if link.is_symlink() else None

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file of the agent with its inode and time of change: a rewritten one differs."""
        found = {}
        for path in self.base.rglob("*"):
            if "log" not in path.parts and not path.is_dir():
                state = path.lstat()
                found[str(path)] = (state.st_ino, state.st_mtime_ns)
        return found

    def lock_log(self) -> str:
        return (self.root / "run/hostler/log").read_text()

    def wait_until(self, is_so: Callable[[], Any], seconds: float = 60) -> None:
        """Wait for something only the host's files can tell."""
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "it did not become so in time"
            time.sleep(0.02)

    def clear(self) -> None:
        for process in self.begun:
            with process:
                process.kill()
        if pid := self.pid:
            os.killpg(pid, signal.SIGKILL)
        self.port_keeper.close()


QUIET = {
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "0",
}


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def ansible_playbook() -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("ansible-playbook")),)


def task_result(said: str) -> dict[str, Any]:
    """The one result in what ansible-playbook -v printed."""
    found = [
        json.loads(line.partition(" => ")[2])
        for line in said.splitlines()
        if line.startswith(("ok: ", "changed: ", "fatal: ")) and " => {" in line
    ]
    assert len(found) == 1, said
    result: dict[str, Any] = found[0]
    return result


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {phase["key"]: phase["status"] for phase in result["phases"]}
