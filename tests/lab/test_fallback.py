"""The stand-ins keep theirs: an address, a login and a folder each, and nothing left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import choice
from tests.lab.errors import LabError
from tests.lab.fallback import FallbackHost, FallbackLab, can_run_fallback, fallback_names

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def able() -> None:
    """Skip where not even plain sshd can run; in CI it has to."""
    if reason := can_run_fallback():
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@pytest.fixture
def hosts(able: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FallbackHost]]:
    """Two stand-ins, because HOSTLER_LAB=fallback asks for them wherever the tests run."""
    monkeypatch.setenv("HOSTLER_LAB", "fallback")
    with choice.up(2, f"fallback-{os.getpid()}") as lab:
        assert isinstance(lab, FallbackLab)
        yield lab.hosts


def ssh(host: FallbackHost, command: str) -> subprocess.CompletedProcess[str]:
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
    words = [word for option in [*options, "LogLevel=ERROR"] for word in ("-o", option)]
    login = ["ssh", "-i", host.private_key_file, *words, "-p", str(host.port)]
    return subprocess.run(
        [*login, f"{host.user}@{host.address}", command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )


def runs(host: FallbackHost, command: str) -> bool:
    return any(command in line for line in host.processes())


def test_each_session_is_told_its_own_root(hosts: list[FallbackHost]) -> None:
    said = [ssh(host, 'echo "$HOSTLER_ROOT"').stdout.strip() for host in hosts]

    assert said == [str(host.root) for host in hosts]
    assert len(set(said)) == 2
    assert [len(host.logins()) for host in hosts] == [1, 1]


def test_they_describe_themselves_like_lab_hosts(hosts: list[FallbackHost]) -> None:
    said = hosts[0].describe()

    assert said["address"] == "127.0.1.1"
    assert said["password"] is None
    assert ssh(hosts[0], f"{said['python']} -c 'print(1)'").stdout == "1\n"


def test_a_broken_key_is_refused_until_healed(hosts: list[FallbackHost]) -> None:
    hosts[0].break_key()
    refused, other = ssh(hosts[0], "true"), ssh(hosts[1], "true")
    hosts[0].heal()

    assert "Permission denied" in refused.stderr
    assert other.returncode == 0
    assert ssh(hosts[0], "true").returncode == 0


def test_a_stopped_sshd_refuses_until_healed(hosts: list[FallbackHost]) -> None:
    hosts[0].stop_sshd()
    refused = ssh(hosts[0], "true")
    hosts[0].heal()

    assert "Connection refused" in refused.stderr
    assert ssh(hosts[0], "true").returncode == 0


def test_reset_ends_what_was_started_and_empties_the_root(hosts: list[FallbackHost]) -> None:
    first, second = hosts
    for host in hosts:
        ssh(host, 'mkdir "$HOSTLER_ROOT/opt/hostler"; setsid sleep 1003 >/dev/null 2>&1 &')
    assert first.exists("/opt/hostler")
    assert runs(first, "sleep 1003")

    first.reset()

    assert not first.exists("/opt/hostler")
    assert first.exists("/opt")
    assert first.processes() == first.logins() == []
    assert runs(second, "sleep 1003")
    assert ssh(first, "true").returncode == 0


def test_down_leaves_nothing_behind(hosts: list[FallbackHost]) -> None:
    host, lab = hosts[0], hosts[0].lab
    ssh(host, "setsid sleep 1004 >/dev/null 2>&1 &")
    sshd = json.loads((host.folder / "sshd").read_text())[0]

    lab.down()

    assert not Path(f"/proc/{sshd}").exists()
    assert host.processes() == []
    assert not lab.folder.exists()
    assert lab.name not in fallback_names()


def test_a_name_in_use_is_refused(hosts: list[FallbackHost]) -> None:
    with pytest.raises(LabError, match="up already"):
        FallbackLab.up(1, hosts[0].lab.name)


@pytest.mark.usefixtures("able")
def test_the_stand_ins_of_a_killed_owner_are_cleared_by_the_next_lab() -> None:
    name = f"crash-{os.getpid()}"
    script = f"""
from tests.lab.fallback import FallbackLab
print(FallbackLab.up(1, {name!r}).hosts[0].folder, flush=True)
input()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    sshd = json.loads((folder / "sshd").read_text())[0]
    owner.kill()
    owner.communicate()
    assert Path(f"/proc/{sshd}").exists()

    with FallbackLab.up(1, f"next-{os.getpid()}"):
        assert name not in fallback_names()

    command = Path(f"/proc/{sshd}/cmdline")
    assert not (command.exists() and command.read_bytes()), "sshd still runs"
    assert not folder.exists()
