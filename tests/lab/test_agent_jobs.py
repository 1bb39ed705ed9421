"""Every agent job type on real hosts, and what it really did there."""

from datetime import timedelta

import pytest

from app.access.credentials import wipe_expired
from app.domain.errors import LoginMissing
from app.domain.states import Cause, JobStatus, Status
from app.models.base import now, transaction
from tests.lab.agents import HOME, config_of, look_at_agent, look_at_agents, on_all
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, key_login

ASKED = {
    "bt_speed_limit": 7,
    "peer_exchange_switch_for_agent": 1,
    "enable_compression": True,
    "data_path": "/srv/agent data",
}


def stamps(host: LabHost) -> dict[str, int]:
    """When each file on the host that an install could touch last changed."""
    return {
        path: stamp
        for path, stamp in host.changed_files().items()
        if path.startswith(("/opt", "/etc", "/srv", "/root/.ssh", "/home"))
    }


def done(installation: Installation, job: int) -> None:
    assert installation.finish(job) is JobStatus.SUCCESS, installation.describe(job)


def test_the_life_of_an_agent_by_password_key_sudo_and_ipv6(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    installation.agents.steady()
    installation.agents.steady("1.1.0")
    installation.agents.doomed()
    by_password, by_key, by_sudo, by_sudo_key = hosts = lab_hosts(4)
    assert by_password.address6, "the lab has no IPv6"
    specs = [
        installation.spec(by_password, values=ASKED),
        installation.spec(by_key, login=key_login(by_key), values=ASKED),
        installation.spec(by_sudo, account="ops", values=ASKED),
        installation.spec(by_sudo_key, login=key_login(by_sudo_key, "ops"), values=ASKED),
    ]

    def install(job_type: str = "INSTALL_AGENT", version: str = "") -> None:
        done(installation, installation.submit(job_type, specs, version))

    def operate(job_type: str, version: str = "", **values: object) -> None:
        done(installation, installation.operate(job_type, hosts, version, values=values))

    install()
    first = look_at_agents(hosts)
    assert all(seen.state == "active" and seen.version == "1.0.0" for seen in first.values()), first
    for host in hosts:
        assert config_of(host) == {
            "BT_SPEED_LIMIT": "7",
            "PEER_EXCHANGE_SWITCH_FOR_AGENT": "1",
            "ENABLE_COMPRESSION": "true",
            "DATA_PATH": "/srv/agent data",
        }
        assert host.exists("/srv/agent data")
    known = installation.hosts()
    assert {known[h.address].agent_version for h in hosts} == {"1.0.0"}
    assert {known[h.address].agent_status for h in hosts} == {"RUNNING"}

    before = on_all(stamps, hosts)
    install()
    assert look_at_agents(hosts) == first, "an install that changed nothing restarted the agent"
    assert on_all(stamps, hosts) == before

    operate("RESTART_AGENT")
    restarted = look_at_agents(hosts)
    assert all(restarted[a].pid != first[a].pid for a in first)
    assert on_all(stamps, hosts) == before

    operate("ACTIVATE_AGENT", bt_speed_limit=11)
    assert look_at_agents(hosts) == restarted, "activating a configuration restarts nothing"
    assert {config_of(host)["BT_SPEED_LIMIT"] for host in hosts} == {"11"}
    assert {config_of(host)["DATA_PATH"] for host in hosts} == {"/srv/agent data"}

    operate("RELOAD_AGENT", bt_speed_limit=12)
    reloaded = look_at_agents(hosts)
    assert all(seen.state == "active" for seen in reloaded.values())
    environ = by_key.run("cat", f"/proc/{reloaded[by_key.address].pid}/environ").stdout
    assert "BT_SPEED_LIMIT=12" in environ.split("\0")

    operate("UPGRADE_AGENT", "1.1.0")
    upgraded = look_at_agents(hosts)
    assert {(seen.state, seen.version) for seen in upgraded.values()} == {("active", "1.1.0")}
    assert {config_of(host)["BT_SPEED_LIMIT"] for host in hosts} == {"12"}

    doomed = installation.operate("UPGRADE_AGENT", hosts, "2.0.0")
    assert installation.finish(doomed) is JobStatus.FAILED, installation.describe(doomed)
    after = look_at_agents(hosts)
    assert {(seen.state, seen.version) for seen in after.values()} == {("active", "1.1.0")}
    for part in installation.parts(doomed).values():
        assert part.cause is Cause.AGENT_EXITED
        assert "licence file not found" in part.reason
        assert "The previous release 1.1.0 runs again." in part.reason
        steps = installation.steps(part)
        assert steps["verify"].status is Status.FAILED
    assert {h.agent_version for h in installation.hosts().values() if h.login_address in after} == {
        "1.1.0"
    }

    operate("REINSTALL_AGENT", "1.1.0")
    fresh = look_at_agents(hosts)
    assert {(seen.state, seen.version) for seen in fresh.values()} == {("active", "1.1.0")}
    assert all(fresh[a].pid != after[a].pid for a in after)

    operate("UNINSTALL_AGENT")
    for host in hosts:
        assert look_at_agent(host) == ("inactive", 0, "")
        assert not host.exists(HOME)
        assert not host.exists("/etc/systemd/system/hostler-agent.service")
        assert not [line for line in host.processes() if HOME in line]
    key = installation.standing_key().split()[1]
    for host, home in zip(hosts, ("/root", "/root", "/home/ops", "/home/ops"), strict=True):
        assert key not in host.read(f"{home}/.ssh/authorized_keys")
    assert {h.agent_status for h in installation.hosts().values() if h.login_address in after} == {
        "NOT_INSTALLED"
    }


def test_an_agent_is_found_by_import_and_forgotten_by_remove(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    installation.agents.steady()
    found, bare, by_ipv6 = lab_hosts(3)
    assert by_ipv6.address6
    sixth = installation.spec(by_ipv6, inner_ip=None, inner_ipv6=by_ipv6.address6)
    done(installation, installation.install([found, sixth]))
    running = look_at_agent(found)
    assert running.state == "active"
    assert look_at_agent(by_ipv6).state == "active"
    assert installation.hosts()[by_ipv6.address6].agent_version == "1.0.0"

    done(installation, installation.operate("REMOVE_AGENT", [found]))
    assert look_at_agent(found) == running, "removing a host from the records touched it"
    row = installation.hosts()[found.address]
    assert row.is_forgotten

    specs = [installation.spec(found), installation.spec(bare)]
    done(installation, installation.submit("IMPORT_AGENT", specs))
    assert look_at_agent(found) == running
    assert look_at_agent(bare) == ("inactive", 0, "")
    known = installation.hosts()
    imported, empty = known[found.address], known[bare.address]
    assert (imported.agent_status, imported.agent_version) == ("RUNNING", "1.0.0")
    assert not imported.is_forgotten
    assert (imported.cpu_arch, imported.hostname) == ("x86_64", found.name)
    assert "Debian" in imported.os_version
    assert (empty.agent_status, empty.agent_version) == ("NOT_INSTALLED", None)


def test_a_restart_needs_no_login_while_standing_access_is_on(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    installation.agents.steady()
    root, ops = hosts = lab_hosts(2)
    specs = [
        installation.spec(root),
        installation.spec(ops, login=key_login(ops, "ops")),
    ]
    done(installation, installation.install(specs))
    first = look_at_agents(hosts)
    for host in hosts:
        host.break_password()
    wipe_logins_of(installation, hosts)

    done(installation, installation.operate("RESTART_AGENT", hosts))

    second = look_at_agents(hosts)
    assert all(second[a].state == "active" and second[a].pid != first[a].pid for a in first)
    for host in hosts:
        assert "Accepted publickey" in host.logins()[-1]

    logins = on_all(LabHost.logins, hosts)
    without = installation.with_settings(standing_access=False)
    with pytest.raises(LoginMissing) as refusal:
        without.operate("RESTART_AGENT", hosts)
    assert all(host.address in refusal.value.message for host in hosts)
    assert set(refusal.value.details["hosts"]) == {host.address for host in hosts}
    assert on_all(LabHost.logins, hosts) == logins


def wipe_logins_of(installation: Installation, hosts: list[LabHost]) -> None:
    """As if the day for which these logins are kept were over."""
    with transaction(installation.ctx.engine) as session:
        assert wipe_expired(session, now() + timedelta(days=2)) >= len(hosts)
