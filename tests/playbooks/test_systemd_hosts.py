"""The playbooks by hand on real hosts with systemd: by key, by password, and through sudo."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.packages.agents import EXITS
from tests.playbooks.conftest import Package
from tests.playbooks.host import CHECKOUT, QUIET, ansible_playbook, statuses

UNIT = "/etc/systemd/system/hostler-agent.service"
NEVER_READY = {"kind": "tcp", "port": 1, "within": 60}
Result = dict[str, Any]


class Operator:
    """Somebody with the checkout, an inventory and ansible-playbook."""

    def __init__(self, folder: Path, hosts: list[LabHost]) -> None:
        self.folder = folder
        self.hosts = hosts
        self.variables = [by_key(hosts[0]), by_password(hosts[1]), through_sudo(hosts[2])]

    def begin(self, playbook: str, **variables: Any) -> subprocess.Popen[str]:
        inventory = self.folder / "hosts.json"
        hosts = {h.name: v for h, v in zip(self.hosts, self.variables, strict=True)}
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}, default=str))
        return subprocess.Popen(
            [*ansible_playbook(), "-v", "-i", str(inventory), f"playbooks/{playbook}.yml"],
            cwd=CHECKOUT,
            env={**os.environ, **QUIET, "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, playbook: str, **variables: Any) -> list[Result]:
        with self.begin(playbook, **variables) as process:
            said, _ = process.communicate(timeout=120)
        found = {}
        for line in said.splitlines():
            head, _, result = line.partition(" => ")
            if line.startswith(("ok: ", "changed: ", "fatal: ")) and result.startswith("{"):
                found[head.split("[")[1].split("]")[0]] = json.loads(result)
        assert len(found) == len(self.hosts), said
        return [found[host.name] for host in self.hosts]


def by_key(host: LabHost) -> dict[str, Any]:
    return {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": host.private_key_file,
    }


def by_password(host: LabHost) -> dict[str, Any]:
    return {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_password": host.password,
    }


def through_sudo(host: LabHost) -> dict[str, Any]:
    return {
        **by_password(host),
        "ansible_user": "ops",
        "ansible_become": True,
        "ansible_become_password": host.password,
    }


@pytest.fixture
def operator(tmp_path_factory: pytest.TempPathFactory, lab_hosts: LabHosts) -> Operator:
    # ssh's sockets have short names only
    return Operator(tmp_path_factory.mktemp("op"), lab_hosts(3))


def test_install_twice_fail_to_upgrade_and_uninstall(operator: Operator, package: Package) -> None:
    archive = package("1.0")
    first = operator.run("install_agent", hostler_package_file=archive)
    assert [result["cause"] for result in first] == [None] * 3
    for host, result in zip(operator.hosts, first, strict=True):
        assert host.run("systemctl", "is-enabled", "hostler-agent").stdout.strip() == "enabled"
        assert main_pid(host) == result["after"]["pid"]
    files = [host.changed_files() for host in operator.hosts]

    again = operator.run("install_agent", hostler_package_file=archive)
    assert not any(result["changed"] for result in again)
    assert [main_pid(host) for host in operator.hosts] == [r["after"]["pid"] for r in first]
    assert [ours(host.changed_files()) for host in operator.hosts] == [ours(f) for f in files]

    failed = operator.run("upgrade_agent", hostler_package_file=package("2.0", EXITS))
    for host, result in zip(operator.hosts, failed, strict=True):
        assert (result["cause"], result["restored"]) == ("agent_exited", True)
        assert "cannot open the database" in result["reason"]
        assert result["after"]["release"]["version"] == "1.0"
        assert main_pid(host)

    gone = operator.run("uninstall_agent")
    for host, result in zip(operator.hosts, gone, strict=True):
        assert statuses(result)["remove"] == "ok"
        assert not host.exists(UNIT)
        assert not host.exists("/opt/hostler/agent")
        assert "hostler" not in host.run("systemctl", "list-units", "--all").stdout


def test_standing_access_opens_the_host_until_it_is_taken_away(
    operator: Operator, package: Package, tmp_path: Path
) -> None:
    key = tmp_path / "standing"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()

    granted = operator.run(
        "install_agent", hostler_package_file=package("1.0"), hostler_standing_key=public
    )
    assert [result["standing_key"] for result in granted] == ["authorised"] * 3
    assert [opens(key, host, user) for host, user in accounts(operator)] == [True] * 3

    taken = operator.run("uninstall_agent", hostler_standing_key=public)
    assert [result["standing_key"] for result in taken] == ["removed"] * 3
    assert [opens(key, host, user) for host, user in accounts(operator)] == [False] * 3


def test_a_run_whose_connections_are_killed_puts_back_what_was(
    operator: Operator, package: Package
) -> None:
    operator.run("install_agent", hostler_package_file=package("1.0"))
    slow = package("2.0", ready=NEVER_READY)
    with operator.begin("upgrade_agent", hostler_package_file=slow) as process:
        wait_for(lambda: all(current(host) == "2.0" for host in operator.hosts))
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)
        process.kill()
        # the masters of the connections are no children of ansible-playbook any more
        kill_masters(operator)

    wait_for(lambda: all(lock(host) == "" for host in operator.hosts))
    assert [current(host) for host in operator.hosts] == ["1.0"] * 3
    assert all(main_pid(host) for host in operator.hosts)


def test_a_full_disk_is_told_from_other_faults(operator: Operator, package: Package) -> None:
    operator.hosts[2].fill_disk("/opt")

    results = operator.run("install_agent", hostler_package_file=package("1.0"))

    assert [result["cause"] for result in results] == [None, None, "disk_full"]
    assert "free on /opt" in results[2]["reason"]
    assert not operator.hosts[2].exists(UNIT)


# --- Looking ------------------------------------------------------------------------------------


def main_pid(host: LabHost) -> int:
    shown = host.run("systemctl", "show", "hostler-agent", "-p", "MainPID", "--value")
    return int(shown.stdout)


def current(host: LabHost) -> str:
    link = host.run("readlink", "/opt/hostler/agent/current", check=False).stdout.strip()
    return link.rpartition("/")[2].rpartition("-")[0]


def lock(host: LabHost) -> str:
    return host.read("/run/hostler/lock")


def ours(files: dict[str, int]) -> dict[str, int]:
    """What a job wrote; logging in leaves traces of its own."""
    return {path: stamp for path, stamp in files.items() if "hostler" in path or "ssh" in path}


def accounts(operator: Operator) -> list[tuple[LabHost, str]]:
    users = [variables["ansible_user"] for variables in operator.variables]
    return list(zip(operator.hosts, users, strict=True))


def opens(key: Path, host: LabHost, user: str) -> bool:
    options = "BatchMode=yes IdentitiesOnly=yes StrictHostKeyChecking=no LogLevel=ERROR"
    command = ["ssh", "-F", "none", "-i", str(key), "-o", "UserKnownHostsFile=/dev/null"]
    for option in options.split():
        command += ["-o", option]
    return subprocess.run([*command, f"{user}@{host.address}", "true"]).returncode == 0


def kill_masters(operator: Operator) -> None:
    folder = str(operator.folder / "cp")
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def wait_for(is_so: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.1)
