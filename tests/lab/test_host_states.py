"""Hosts in the states people find them in, one of each, and what is said of them."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.packages.agents import EXITS, a_package
from tests.playbooks.host import CHECKOUT, QUIET, ansible_playbook

UNIT = "hostler-agent.service"
FILE = f"/etc/systemd/system/{UNIT}"
BASE = "/opt/hostler/agent"
Result = dict[str, Any]


@dataclass(frozen=True)
class State:
    """What is done to an installed host, what is then asked of it, and what has to be true."""

    name: str
    arrange: Callable[[LabHost], object]
    action: str
    check: Callable[[LabHost, Result], None]


def shell(*lines: str) -> Callable[[LabHost], object]:
    return lambda host: host.run("sh", "-euc", "\n".join(lines))


def uninstalled(host: LabHost, result: Result) -> None:
    assert result["cause"] is None, result["reason"]
    assert not host.exists(BASE)
    assert not host.exists(FILE)
    assert not any("bin/tiny" in line for line in host.processes())
    assert active(host) != "active"


def masked(host: LabHost, result: Result) -> None:
    assert result["cause"] == "task_failed"
    assert "is masked on this host" in result["reason"]
    assert host.run("readlink", FILE).stdout.strip() == "/dev/null"
    assert host.run("sh", "-c", "find /etc/systemd /opt -perm -o+w ! -type l").stdout == ""


def still_there(host: LabHost, result: Result) -> None:
    assert result["cause"] == "task_failed"
    assert f"{BASE}/data is mounted from elsewhere" in result["reason"]
    assert active(host) == "active"
    assert host.exists(f"{BASE}/current/bin/tiny")


def runs(host: LabHost, result: Result) -> None:
    assert result["cause"] is None, result["reason"]
    assert active(host) == "active"


def not_ready(host: LabHost, result: Result) -> None:
    """Somebody else's listener is not taken for ours."""
    assert result["cause"] in ("agent_exited", "agent_not_ready"), result["reason"]
    assert result["restored"]


def goes_on(host: LabHost, result: Result) -> None:
    assert result["cause"] == "task_failed"
    assert "systemd is still busy with network-online.target" in result["reason"]
    assert active(host) == "active"


def named(words: str) -> Callable[[LabHost, Result], None]:
    """Refused with these words while what ran goes on."""

    def check(host: LabHost, result: Result) -> None:
        assert result["cause"] == "task_failed"
        assert words in result["reason"]
        assert active(host) == "active"
        assert host.exists(f"{BASE}/current/bin/tiny")

    return check


BLOCK = "/etc/systemd/system/block.service"
STATES = [
    State(
        "the unit's file was removed",
        shell(f"rm {FILE}"),
        "uninstall",
        uninstalled,
    ),
    State(
        "the unit's file was removed and systemd knows it",
        shell(f"rm {FILE}", "systemctl daemon-reload"),
        "uninstall",
        uninstalled,
    ),
    State(
        "the program runs outside its unit",
        shell(
            f"systemctl stop {UNIT}",
            f"setsid {BASE}/current/bin/tiny 127.0.0.1:9101 </dev/null >/dev/null 2>&1 &",
        ),
        "uninstall",
        uninstalled,
    ),
    State(
        "the unit is masked",
        shell(f"systemctl stop {UNIT}", f"rm {FILE}", f"systemctl mask {UNIT}"),
        "reinstall",
        masked,
    ),
    State(
        "the data folder is a mount",
        shell(f"mkdir -p {BASE}/data", f"mount -t tmpfs none {BASE}/data"),
        "uninstall",
        still_there,
    ),
    State(
        "an earlier removal stopped at a mount",
        shell(
            f"systemctl stop {UNIT}",
            f"rm -r {FILE} {BASE}",
            "mkdir -p /opt/hostler/.aside-agent/data",
            "mount -t tmpfs none /opt/hostler/.aside-agent/data",
        ),
        "reinstall",
        runs,
    ),
    State(
        "os-release and values hold any bytes",
        shell(
            r"printf 'PRETTY_NAME=\"\377\376 odd\"\n' >/etc/os-release",
            f"printf '\\377\\376' >{BASE}/values.json",
        ),
        "reinstall",
        runs,
    ),
    State(
        "a folder stands in the configuration",
        shell(f"mkdir -p {BASE}/etc/conf.d/more", f"echo x >{BASE}/etc/conf.d/more/x"),
        "uninstall",
        uninstalled,
    ),
    State(
        "the setup folder runs no programs",
        shell(f"mount --bind {BASE} {BASE}", f"mount -o remount,bind,noexec {BASE}"),
        "reinstall",
        named(f"{BASE} is mounted noexec"),
    ),
    State(
        "the units' folder is read-only",
        shell(
            "mount --bind /etc/systemd/system /etc/systemd/system",
            "mount -o remount,bind,ro /etc/systemd/system",
        ),
        "uninstall",
        named("/etc/systemd/system is mounted read-only"),
    ),
    State(
        "what is known of the release is no description",
        shell(f"echo '[]' >{BASE}/current/.hostler.json", f"echo 7 >{BASE}/values.json"),
        "reinstall",
        runs,
    ),
    State(
        "a drop-in waits for another unit",
        shell(
            f"printf '[Service]\\nType=oneshot\\nExecStart=/bin/sleep 600\\n' >{BLOCK}",
            f"mkdir -p {FILE}.d",
            f"printf '[Unit]\\nAfter=block.service\\n' >{FILE}.d/wait.conf",
            "systemctl daemon-reload",
            "systemctl start --no-block block.service",
        ),
        "restart",
        named("systemd is still busy with block.service"),
    ),
    State(
        "systemd waits for the network",
        shell(
            f"printf '[Unit]\\nBefore=network-online.target\\n[Service]\\nType=oneshot\\n"
            f"ExecStart=/bin/sleep 600\\n' >{BLOCK}",
            "mkdir -p /etc/systemd/system/network-online.target.wants",
            f"ln -s {BLOCK} /etc/systemd/system/network-online.target.wants/",
            "systemctl daemon-reload",
            "systemctl stop network-online.target",
            "systemctl start --no-block network-online.target",
        ),
        "restart",
        goes_on,
    ),
]


def test_hosts_in_odd_states_are_told_right(lab_hosts: LabHosts, tmp_path: Path) -> None:
    archive = a_package(tmp_path / "packages", "1.0")
    hosts = dict(zip([state.name for state in STATES], lab_hosts(len(STATES)), strict=True))
    first = play(tmp_path, "install", hosts, hostler_package_file=str(archive))
    assert [result["cause"] for result in first.values()] == [None] * len(STATES), first
    for state in STATES:
        state.arrange(hosts[state.name])
    results: dict[str, Result] = {}
    for action in sorted({state.action for state in STATES}):
        theirs = {s.name: hosts[s.name] for s in STATES if s.action == action}
        results |= play(tmp_path, action, theirs, hostler_package_file=str(archive))

    wrong = {}
    for state in STATES:
        try:
            state.check(hosts[state.name], results[state.name])
        except AssertionError as error:
            wrong[state.name] = f"{error}\n{json.dumps(results[state.name], indent=1)}"
    for state in STATES:
        hosts[state.name].run(
            "sh",
            "-c",
            "umount -q /opt/hostler/*agent/data /opt/hostler/agent /etc/systemd/system || true",
            check=False,
        )
    assert not wrong, "\n".join(f"=== {name}\n{said}" for name, said in wrong.items())


def test_another_program_on_the_port_is_not_taken_for_ours(
    lab_hosts: LabHosts, tmp_path: Path
) -> None:
    lingers = a_package(tmp_path / "packages", "1.0", "signal.pause()\n", ready=READY)
    [host] = lab_hosts(1)
    host.run(
        "systemd-run", "--quiet", "--unit=other", "/usr/bin/python3", "-m", "http.server", "9100"
    )

    [result] = play(tmp_path, "install", {"busy": host}, hostler_package_file=str(lingers)).values()

    assert result["cause"] == "agent_not_ready"
    assert "another program answers there, python3 (process" in result["reason"]
    assert not host.exists(FILE)


def test_a_host_without_a_journal_is_not_said_to_have_read_it(
    lab_hosts: LabHosts, tmp_path: Path
) -> None:
    exits = a_package(tmp_path / "packages", "1.0", EXITS)
    [host] = lab_hosts(1)
    shell(
        "mkdir -p /etc/systemd/journald.conf.d",
        r"printf '[Journal]\nStorage=none\n' >/etc/systemd/journald.conf.d/none.conf",
        "systemctl restart systemd-journald",
        "rm -rf /run/log/journal /var/log/journal",
    )(host)

    [result] = play(tmp_path, "install", {"mute": host}, hostler_package_file=str(exits)).values()

    assert result["cause"] == "agent_exited"
    assert "this host keeps no journal that can be read" in result["reason"]
    assert "It wrote nothing" not in result["reason"]
    assert f"Look at systemctl status {UNIT}" in result["reason"]


READY = {"kind": "tcp", "port": "9100", "within": 3}


def active(host: LabHost) -> str:
    return host.run("systemctl", "is-active", UNIT, check=False).stdout.strip()


def play(
    folder: Path, action: str, hosts: dict[str, LabHost], **variables: Any
) -> dict[str, Result]:
    """Run the action on these hosts, all at once; the result of each by its name here."""
    inventory = folder / "hosts.json"
    rows = {
        host.name: {
            "ansible_host": host.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": host.private_key_file,
        }
        for host in hosts.values()
    }
    inventory.write_text(json.dumps({"all": {"hosts": rows, "vars": variables}}))
    done = subprocess.run(
        [*ansible_playbook(), "-v", "-i", str(inventory), f"playbooks/{action}_agent.yml"],
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = {}
    for line in done.stdout.splitlines():
        head, _, result = line.partition(" => ")
        if line.startswith(("ok: ", "changed: ", "fatal: ")) and result.startswith("{"):
            found[head.split("[")[1].split("]")[0]] = json.loads(result)
    assert len(found) == len(hosts), done.stdout
    return {name: found[host.name] for name, host in hosts.items()}
