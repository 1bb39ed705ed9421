"""Two jobs that want the same hosts: one at a time on each, and the other says so."""

import pytest

from app.domain.commands import OnBusy
from app.domain.errors import HostsBusy
from app.domain.states import JobStatus, Status
from tests.chaos.middle import Middle
from tests.lab.agents import lock_log, look_at_agents, on_all, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.installation import Installation, wait_for


def test_jobs_on_overlapping_hosts_take_turns(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    steady = installation.agents.steady()
    hosts = lab_hosts(9)
    wanted, free = hosts[3:6], hosts[6:]
    first = Middle(installation, hosts[:6])

    second = installation.install([*wanted, *free], steady)

    def waits() -> bool:
        parts = installation.parts(second)
        done = all(parts[host.address].status is Status.SUCCESS for host in free)
        return done and all(parts[host.address].reason for host in wanted)

    wait_for(waits, lambda: installation.describe(second))
    parts = installation.parts(second)
    for host in wanted:
        part = parts[host.address]
        assert (part.status, part.reason) == (Status.PENDING, f"held by job {first.job}")
    assert installation.job(second).status is JobStatus.RUNNING
    assert {seen.version for seen in look_at_agents(free).values()} == {"1.0.0"}
    with pytest.raises(HostsBusy) as refusal:
        installation.install(wanted, steady, on_busy=OnBusy.REFUSE)
    assert refusal.value.details["hosts"] == {host.address: first.job for host in wanted}
    open_gates(hosts)

    assert installation.finish(first.job) is JobStatus.SUCCESS, installation.describe(first.job)
    assert installation.finish(second) is JobStatus.SUCCESS, installation.describe(second)
    agents = look_at_agents(hosts)
    assert [seen.version for seen in agents.values()] == ["3.0.0"] * 3 + ["1.0.0"] * 6

    several = [installation.operate("RESTART_AGENT", hosts) for _ in range(3)]
    for job in several:
        assert installation.finish(job) is JobStatus.SUCCESS, installation.describe(job)
    restarted = look_at_agents(hosts)
    assert {seen.state for seen in restarted.values()} == {"active"}
    for host, notes in zip(hosts, on_all(lock_log, hosts), strict=True):
        deeds = [note.deed for note in notes]
        assert deeds == ["taken", "released"] * (len(deeds) // 2), f"{host.address}: {notes}"
        turns = [note.run for note in notes[::2]]
        assert turns == [note.run for note in notes[1::2]], "a run let go what another had taken"
        assert len(set(turns)) == len(turns) == (5 if host in wanted else 4)
    assert not [
        host_id for job in (first.job, second, *several) for host_id in installation.locks(job)
    ]
