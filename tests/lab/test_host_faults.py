"""Each way a host can fail has its own cause, and a sentence that says what to do now."""

import re
import socket
from datetime import timedelta

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.domain.states import Cause, JobStatus, Status
from app.packages.sign import sign_url, signing_key
from tests.lab.agents import HOME, look_at_agent, look_at_locks, on_all, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import Lab, LabHost
from tests.lab.installation import Installation, key_login, password_login, wait_for

NOTICED_WITHIN = 40  # seconds from a cut network to the truth about its host


def test_every_fault_of_a_host_tells_its_own_cause(
    lab: Lab, lab_hosts: LabHosts, installation: Installation
) -> None:
    agents = installation.agents
    agents.steady()
    hosts = lab_hosts(11)
    password, key, refused, bare, nosudo, full, far, corrupt, exits, silent, cut = hosts
    with socket.create_server(("", 0)) as taken:
        closed = taken.getsockname()[1]
    point = installation.add_access_point(f"http://{lab.bridge_address}:{closed}")
    refused.stop_sshd()
    bare.hide_python()
    full.fill_disk("/opt")
    nowhere = lab.spare_address()
    steady = [
        installation.spec(password, login=password_login(password, password="not-the-password")),
        installation.spec(key, login=key_login(key, key=another_key())),
        installation.spec(refused),
        installation.spec(bare),
        installation.spec(nosudo, account="nosudo"),
        installation.spec(full),
        installation.spec(far, access_point_id=point),
        installation.spec(refused, inner_ip=nowhere),
    ]

    middle = installation.install([cut], agents.gated())
    wait_for(lambda: look_at_agent(cut).pid, "the agent of the host that will be cut off runs")
    cut.cut_network()
    jobs = [
        installation.install(steady),
        installation.install([corrupt], corrupted(installation, agents.steady("1.2.0"))),
        installation.install([exits], agents.doomed()),
        installation.install([silent], agents.silent()),
    ]

    assert installation.finish(middle, NOTICED_WITHIN) is JobStatus.FAILED
    for job in jobs:
        assert installation.finish(job) is JobStatus.FAILED, installation.describe(job)

    told = {
        address: (part.cause, part.reason, installation.steps(part))
        for job in (middle, *jobs)
        for address, part in installation.parts(job).items()
    }
    expected = {
        password.address: (Cause.AUTH, "did not accept the login .*Check account, password"),
        key.address: (Cause.AUTH, "did not accept the login .*key"),
        refused.address: (Cause.REFUSED, "nothing listens on this port.*Start sshd"),
        nowhere: (Cause.UNREACHABLE, "no way to the host.*Check that it is up"),
        bare.address: (Cause.NO_PYTHON, "no Python 3 .*Install python3"),
        nosudo.address: (Cause.PRIVILEGE, "sudo.*(Allow it in sudoers|allow NOPASSWD|as root)"),
        full.address: (Cause.DISK_FULL, "disk is full.*/opt.*Make room"),
        far.address: (Cause.PACKAGE_UNREACHABLE, f"{closed}.*refused.*the access point's URL"),
        corrupt.address: (Cause.CHECKSUM, "checksum .*Nothing was installed.*broken cache"),
        exits.address: (Cause.AGENT_EXITED, "licence file not found.*mend it and retry"),
        silent.address: (Cause.AGENT_NOT_READY, "within 2 seconds.*7007.*mend it and retry"),
        cut.address: (Cause.CONNECTION_LOST, "connection broke.*network, then retry"),
    }
    assert {address: cause for address, (cause, *_) in told.items()} == {
        address: cause for address, (cause, _) in expected.items()
    }
    for address, (_, words) in expected.items():
        _, reason, steps = told[address]
        assert re.search(words, reason, re.DOTALL), f"{address}: {reason}"
        failed = [step for step in steps.values() if step.status is Status.FAILED]
        assert [reason in step.log for step in failed] == [True], f"{address}: {steps}"
    leave_nothing_behind([full, far, corrupt, exits, silent, nosudo])

    for host in (full, refused, bare):
        host.heal()
    cut.restore_network()
    open_gates([cut])
    installation.retry(middle)
    assert installation.finish(middle) is JobStatus.SUCCESS, installation.describe(middle)
    assert look_at_agent(cut).state == "active"
    assert look_at_locks([cut]) == []


def leave_nothing_behind(hosts: list[LabHost]) -> None:
    """A first install that failed is as if it had never been."""
    for host, seen in zip(hosts, on_all(look_at_agent, hosts), strict=True):
        assert seen == ("inactive", 0, ""), f"{host.address}: {seen}"
        assert not host.exists(f"{HOME}/releases"), host.address
        assert not [line for line in host.processes() if HOME in line]
    assert look_at_locks(hosts) == []


def another_key() -> str:
    """A key no host knows."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def corrupted(installation: Installation, version: str) -> str:
    """Spoil the copy of this package that the listener has made and verified."""
    sha256 = installation.agents.package(version).sha256
    key = signing_key(installation.ctx.settings.key_file)
    url = sign_url(installation.package_url, sha256, key, timedelta(minutes=1))
    assert requests.get(url, timeout=30).ok
    copy = installation.data_dir / "packages" / sha256
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 0xFF
    copy.write_bytes(content)
    return version
