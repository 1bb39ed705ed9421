"""Thirty real hosts, three of them broken: the truth about each, and a retry of those three."""

from typing import Any

from tests.lab.agents import lock_log, look_at_agents, on_all
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation


def test_three_of_thirty_fail_and_a_retry_touches_exactly_those(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    installation.agents.steady()
    hosts = lab_hosts(30)
    wrong, refusing, bare = broken = hosts[3], hosts[14], hosts[27]
    good = [host for host in hosts if host not in broken]
    refusing.stop_sshd()
    bare.hide_python()
    rows = [installation.row(host) for host in hosts]
    rows[3] |= {"password": "not-the-password"}

    job = installation.ask("/api/job/install/", job_type="INSTALL_AGENT", hosts=rows)["job_id"]
    details = installation.over(job)

    agents = look_at_agents(good)
    assert {seen.state for seen in agents.values()} == {"active"}, agents
    assert {seen.version for seen in agents.values()} == {"1.0.0"}, agents
    assert {host.address: len(host.logins()) for host in good} == {h.address: 1 for h in good}
    assert details["status"] == "PART_FAILED"
    assert (details["statistics"]["success_count"], details["statistics"]["failed_count"]) == (
        27,
        3,
    )
    told = {row["ip"]: row for row in details["list"]}
    assert {a: row["cause"] for a, row in told.items() if row["status"] == "FAILED"} == {
        wrong.address: "auth",
        refusing.address: "refused",
        bare.address: "no_python",
    }
    assert all(told[host.address]["status"] == "SUCCESS" for host in good)

    refusing.heal()
    bare.heal()
    before = on_all(everything_on, good)
    login = {"bk_host_id": told[wrong.address]["bk_host_id"], "account": "root", "port": wrong.port}
    login |= {"auth_type": "PASSWORD", "password": wrong.password}
    installation.ask(f"/api/job/{job}/retry/", hosts=[login])

    details = installation.over(job)
    assert details["status"] == "SUCCESS", installation.describe(job)
    assert on_all(everything_on, good) == before
    mended = look_at_agents(broken)
    assert {seen.state for seen in mended.values()} == {"active"}, mended
    assert [len(host.logins()) for host in (wrong, refusing)] == [1, 1]
    (*_, run) = installation.runs(job)
    retried = installation.parts(job)
    assert {a for a, part in retried.items() if part.run_id == run.id} == {
        host.address for host in broken
    }


def everything_on(host: LabHost) -> dict[str, Any]:
    """What a run that came by would change: its login, any file, the agent's process."""
    return {
        "logins": host.logins(),
        "files": host.changed_files(),
        "agent": host.run("systemctl", "show", "hostler-agent", "--property=MainPID").stdout,
        "locks": lock_log(host),
    }
