"""Debian's packages that can be built from as they are: installed and looked at on real hosts."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.packages.build import build_package, known_debs
from app.packages.fetch_default import NotToBeHad, download_deb
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.playbooks.host import CHECKOUT, QUIET, ansible_playbook

UNIT = "hostler-agent.service"
ETC = "/opt/hostler/agent/etc"
# port, path and a line of what is answered there
ANSWERS = {
    "collectd-core": None,  # it listens nowhere
    "prometheus-blackbox-exporter": (9115, "/metrics", "blackbox_exporter_config_last_reload"),
    "prometheus-node-exporter": (9100, "/metrics", "node_cpu_seconds_total"),
    "prometheus-process-exporter": (9256, "/metrics", "namedprocess_namegroup_num_procs"),
    "prometheus-redis-exporter": (9121, "/metrics", "redis_exporter_build_info"),
}


@dataclass(frozen=True)
class Installed:
    """One of the packages on a host of its own."""

    deb: str
    host: LabHost


def test_every_known_deb_installs_and_answers(lab_hosts: LabHosts, tmp_path: Path) -> None:
    assert sorted(ANSWERS) == known_debs()
    archives = {name: build(name, tmp_path) for name in ANSWERS}
    hosts = lab_hosts(len(ANSWERS))
    installed = [Installed(name, host) for name, host in zip(ANSWERS, hosts, strict=True)]

    first = play(tmp_path, installed, archives)
    assert first.returncode == 0, first.stdout
    for one in installed:
        look(one)
    pids = [main_pid(one.host) for one in installed]

    again = play(tmp_path, installed, archives)
    assert again.returncode == 0, again.stdout
    assert "changed=1" not in again.stdout
    assert [main_pid(one.host) for one in installed] == pids


def test_a_program_runs_as_the_account_its_package_names(
    lab_hosts: LabHosts, tmp_path: Path
) -> None:
    archive = build("prometheus-redis-exporter", tmp_path, user="nobody")
    [host] = lab_hosts(1)
    secret = {"redis_password": 'p"a$s s`w\\ord', "redis_address": "redis://192.0.2.1:6379"}

    done = play(tmp_path, [Installed("redis", host)], {"redis": archive}, hostler_config=secret)

    assert done.returncode == 0, done.stdout
    assert host.run("ps", "-o", "user=", "-p", main_pid(host)).stdout.strip() == "nobody"
    shown = host.run("stat", "-c", "%a %U", f"{ETC}/redis.env").stdout.split()
    assert shown == ["600", "nobody"]
    environment = host.run("cat", f"/proc/{main_pid(host)}/environ").stdout.split("\0")
    assert f"REDIS_PASSWORD={secret['redis_password']}" in environment
    assert secret["redis_password"] not in " ".join(host.processes())


def test_an_account_that_is_not_there_is_named_and_nothing_is_left(
    lab_hosts: LabHosts, tmp_path: Path
) -> None:
    archive = build("prometheus-process-exporter", tmp_path, user="prometheus")
    [host] = lab_hosts(1)

    done = play(tmp_path, [Installed("process", host)], {"process": archive})

    assert done.returncode != 0
    assert "runs as prometheus, and there is no such account on this host" in done.stdout
    assert not host.exists("/opt/hostler/agent")
    assert not host.exists(f"/etc/systemd/system/{UNIT}")


def build(name: str, folder: Path, **over: Any) -> Path:
    try:
        deb = download_deb(name, folder)
    except NotToBeHad as error:
        pytest.skip(f"{name}: {error.message}")
    return build_package(deb, folder, **over)


def play(
    folder: Path, installed: list[Installed], archives: dict[str, Path], **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Install each package on its host, by hand and all at once."""
    hosts = {
        one.host.name: {
            "ansible_host": one.host.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": one.host.private_key_file,
            "hostler_package_file": str(archives[one.deb]),
        }
        for one in installed
    }
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
    return subprocess.run(
        [*ansible_playbook(), "-i", str(inventory), "playbooks/install_agent.yml"],
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def look(one: Installed) -> None:
    """Whether it really runs, as the host itself sees it."""
    host = one.host
    assert host.run("systemctl", "is-active", UNIT).stdout.strip() == "active"
    if answer := ANSWERS[one.deb]:
        port, path, line = answer
        said = host.run("curl", "-fsS", f"http://{host.address}:{port}{path}").stdout
        assert line in said
    for mode in host.run("sh", "-c", f"stat -c %a {ETC}/*").stdout.split():
        assert mode == "600"


def main_pid(host: LabHost) -> str:
    return host.run("systemctl", "show", "-p", "MainPID", "--value", UNIT).stdout.strip()
