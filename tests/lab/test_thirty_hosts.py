"""Thirty real hosts, three of them broken: the truth about each, and a retry of those three."""

from typing import Any

from app.domain.states import Cause, JobStatus, Status
from tests.lab.agents import lock_log, look_at_agents, on_all
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, by_cause, password_login


def test_three_of_thirty_fail_and_a_retry_touches_exactly_those(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    installation.agents.steady()
    hosts = lab_hosts(30)
    wrong, refusing, bare = broken = hosts[3], hosts[14], hosts[27]
    good = [host for host in hosts if host not in broken]
    refusing.stop_sshd()
    bare.hide_python()
    specs = [installation.spec(host) for host in hosts]
    specs[3] = installation.spec(wrong, login=password_login(wrong, password="not-the-password"))

    job = installation.install(specs)

    assert installation.finish(job) is JobStatus.PART_FAILED, installation.describe(job)
    agents = look_at_agents(good)
    assert {seen.state for seen in agents.values()} == {"active"}, agents
    assert {seen.version for seen in agents.values()} == {"1.0.0"}, agents
    assert {host.address: len(host.logins()) for host in good} == {h.address: 1 for h in good}
    parts = installation.parts(job)
    assert by_cause(parts) == {
        wrong.address: Cause.AUTH,
        refusing.address: Cause.REFUSED,
        bare.address: Cause.NO_PYTHON,
    }
    assert all(parts[host.address].status is Status.SUCCESS for host in good)

    refusing.heal()
    bare.heal()
    before = on_all(everything_on, good)
    ids = installation.host_ids([wrong])
    installation.retry(job, {ids[wrong.address]: password_login(wrong)})

    assert installation.finish(job) is JobStatus.SUCCESS, installation.describe(job)
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
