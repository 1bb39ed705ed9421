"""The lab keeps its promises: real hosts, real faults, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import processes
from tests.lab.errors import LabError
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import Lab, LabHost, lab_names
from tests.lab.ssh import ssh

CHECKOUT = Path(__file__).parents[2]


def runs(host: LabHost, command: str) -> bool:
    return any(command in line for line in host.processes())


def test_a_host_runs_its_own_systemd(lab_hosts: LabHosts) -> None:
    first, second = lab_hosts(2)

    assert first.run("systemctl", "is-system-running").stdout.strip() == "running"
    assert first.run("cat", "/proc/1/comm").stdout.strip() == "systemd"
    assert first.read("/etc/machine-id") != second.read("/etc/machine-id")
    assert first.run("hostname").stdout.strip() == first.name


@pytest.mark.parametrize("user", ["root", "ops", "nosudo"])
def test_key_and_password_open_a_host(lab_hosts: LabHosts, user: str) -> None:
    (host,) = lab_hosts(1)

    by_key = ssh(host, "whoami", user=user)
    by_password = ssh(host, "whoami", user=user, password=host.password)

    assert by_key.stdout.strip() == by_password.stdout.strip() == user
    kinds = [line.split()[1] for line in host.logins()]
    assert kinds == ["publickey", "password"]


def test_only_ops_may_become_root(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    assert ssh(host, "sudo -n whoami", user="ops").stdout.strip() == "root"
    assert ssh(host, "sudo -n whoami", user="nosudo").returncode != 0


def test_looking_inside_leaves_no_login(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    host.write("/srv/a file", "what was said\n")

    assert host.read("/srv/a file") == "what was said\n"
    assert host.exists("/srv/a file")
    assert not host.exists("/srv/another")
    assert host.logins() == []


def test_hosts_see_each_other_and_the_controller(lab_hosts: LabHosts, lab: Lab) -> None:
    first, second = lab_hosts(2)

    with socket.create_server((lab.bridge_address, 0)) as server:
        port = server.getsockname()[1]
        talk = f"exec 3<>/dev/tcp/{lab.bridge_address}/{port}"
        assert first.run("bash", "-c", talk, timeout=60).returncode == 0
    assert first.run("bash", "-c", f"exec 3<>/dev/tcp/{second.address}/22").returncode == 0


def test_a_reset_host_is_as_good_as_new_and_was_not_rebooted(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)
    fresh, started = host.processes(), host.run("cat", "/proc/1/stat").stdout.split()[21]
    host.write("/etc/systemd/system/hostler-a.service", "[Service]\nExecStart=sleep 1001\n")
    host.run("systemctl", "start", "hostler-a")
    host.write("/opt/hostler/releases/1/agent", "bytes")
    host.run("ln", "-s", "/opt/hostler/releases/1", "/opt/hostler/current")
    host.run("sh", "-c", "echo another key >>/root/.ssh/authorized_keys")
    host.run("useradd", "guest")
    host.run("rm", "-r", "/etc/lab", "/usr/bin/curl")
    host.write("/tmp/left", "over")
    assert ssh(host, "setsid sleep 1002 >/dev/null 2>&1 &").returncode == 0
    host.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &")
    assert runs(host, "sleep 1000")
    assert runs(host, "sleep 1001")
    assert runs(host, "sleep 1002")
    assert "/opt/hostler/releases/1/agent" in host.changed_files()

    host.reset()

    assert host.processes() == fresh
    assert host.run("cat", "/proc/1/stat").stdout.split()[21] == started
    assert host.changed_files() == {}
    assert not host.exists("/opt/hostler")
    assert not host.exists("/tmp/left")
    assert host.exists("/usr/bin/curl")
    assert host.exists("/etc/lab/shadow")
    assert "guest" not in host.read("/etc/passwd")
    assert "another" not in host.read("/root/.ssh/authorized_keys")
    assert host.run("systemctl", "is-active", "hostler-a", check=False).stdout.strip() == "inactive"
    assert host.logins() == []
    assert ssh(host, "true").returncode == 0


def test_an_untouched_host_has_no_changed_file(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    ssh(host, "true")

    assert host.changed_files() == {}


def test_a_broken_password_is_refused_until_healed(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    host.break_password()
    refused = ssh(host, "true", password=host.password)
    by_key = ssh(host, "true")
    host.heal()

    assert refused.returncode == 5  # sshpass: wrong password
    assert by_key.returncode == 0
    assert ssh(host, "true", password=host.password).returncode == 0


def test_a_broken_key_is_refused_until_healed(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    host.break_key()
    refused = ssh(host, "true")
    by_password = ssh(host, "true", password=host.password)
    host.heal()

    assert "Permission denied" in refused.stderr
    assert by_password.returncode == 0
    assert ssh(host, "true").returncode == 0


def test_python_can_be_hidden(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    host.hide_python()
    found = ssh(host, "ls /usr/bin/ | grep python3; command -v python3").stdout
    host.heal()

    assert found == ""
    assert ssh(host, f"{host.python} -c 'print(1)'").stdout == "1\n"


def test_a_full_disk_takes_no_byte(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)
    host.write("/opt/before", "kept")

    host.fill_disk("/opt")
    full = ssh(host, "echo more >/opt/file")
    host.heal()

    assert "No space left on device" in full.stderr
    assert host.read("/opt/before") == "kept"
    assert ssh(host, "echo more >/opt/file").returncode == 0


def test_a_stopped_sshd_refuses(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    host.stop_sshd()
    refused = ssh(host, "true")
    host.heal()

    assert "Connection refused" in refused.stderr
    assert ssh(host, "true").returncode == 0


def test_a_cut_network_comes_back(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)

    host.cut_network()
    cut = ssh(host, "true")
    host.restore_network()

    assert "timed out" in cut.stderr or "No route to host" in cut.stderr
    assert ssh(host, "true").returncode == 0


def test_a_killed_host_keeps_its_disk_and_starts_again(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)
    host.write("/opt/before", "kept")

    host.kill()
    dead = ssh(host, "true")
    with pytest.raises(LabError, match="switched off"):
        host.run("true")
    host.start()

    assert dead.returncode == 255
    assert ssh(host, "cat /opt/before").stdout == "kept"


def test_reset_brings_back_a_host_with_every_fault(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)
    host.break_key()
    host.break_password()
    host.hide_python()
    host.fill_disk("/opt")
    host.stop_sshd()
    host.cut_network()

    host.reset()

    assert ssh(host, "python3 -V && touch /opt/file").returncode == 0
    assert ssh(host, "true", password=host.password).returncode == 0


def test_reset_brings_back_a_dead_host(lab_hosts: LabHosts) -> None:
    (host,) = lab_hosts(1)
    host.write("/opt/before", "gone after")
    host.cut_network()
    host.kill()

    host.reset()

    assert ssh(host, "true").returncode == 0
    assert not host.exists("/opt/before")


def test_nothing_answers_at_a_spare_address(lab: Lab) -> None:
    address = lab.spare_address()

    with socket.socket() as probe:
        probe.settimeout(10)
        with pytest.raises(OSError, match="No route to host"):
            probe.connect((address, 22))
    assert lab.spare_address() != address


def test_an_address_off_the_bridge_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="not on the lab's bridge"):
        lab.network.require_routes(["127.0.0.1"])


def traces(lab: Lab) -> dict[str, object]:
    """Everything on this machine that says the lab is or was there."""
    mounts = Path("/proc/self/mountinfo").read_text()
    namespaces = [file.name for file in Path("/run/netns").glob(f"{lab.network.bridge}-*")]
    return {
        "processes": processes.pids_in(lab.cgroup),
        "cgroups": [tree for tree in processes.hierarchies() if (tree / lab.cgroup).exists()],
        "mounts": [line for line in mounts.splitlines() if f"{lab.folder}/" in line],
        "namespaces": namespaces,
        "interfaces": list(Path("/sys/class/net").glob(f"{lab.network.bridge}*")),
        "folder": lab.folder.exists(),
    }


@pytest.mark.usefixtures("lab")
def test_down_leaves_nothing_behind() -> None:
    lab = Lab.up(2, name=f"down-{os.getpid()}")
    assert all(traces(lab).values())

    lab.down()
    lab.down()

    assert not any(traces(lab).values()), traces(lab)


def test_two_labs_stand_side_by_side(lab: Lab) -> None:
    with Lab.up(1, name=f"second-{os.getpid()}") as second:
        assert second.network.bridge != lab.network.bridge
        assert ssh(second.hosts[0], "true").returncode == 0
        with pytest.raises(LabError, match="up already"):
            Lab.up(1, name=second.name)


@pytest.mark.usefixtures("lab")
def test_the_lab_of_a_killed_owner_is_cleared_by_the_next_one() -> None:
    name = f"crash-{os.getpid()}"
    script = f"from tests.lab.hosts import Lab; Lab.up(1, name={name!r}); print('up', flush=True)"
    owner = subprocess.Popen(
        [sys.executable, "-c", f"{script}; input()"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    crashed = Lab.attach(name)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert traces(crashed)["processes"]

    with Lab.up(1, name=f"next-{os.getpid()}"):
        left = traces(crashed)

    assert name not in lab_names()
    assert not left["processes"]
    assert not left["mounts"]
    assert not left["folder"]


@pytest.mark.usefixtures("lab")
def test_hosts_come_and_go_by_hand() -> None:
    name = f"hand-{os.getpid()}"

    def by_hand(*arguments: str) -> list[dict[str, object]]:
        command = [sys.executable, "-m", "tests.lab", *arguments, "--name", name]
        said = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in said.stdout.splitlines()]

    try:
        (host,) = by_hand("up", "1")
        both = by_hand("up", "2")
        lab = Lab.attach(name)
        assert by_hand("list") == both
        assert both[0] == host == lab.hosts[0].describe()
        assert set(host) == {
            "name", "address", "port", "user", "password", "private_key_file", "python",
        }  # fmt: skip
        assert ssh(lab.hosts[1], "true").returncode == 0
    finally:
        by_hand("down")

    assert not any(traces(lab).values()), traces(lab)
