"""Revoking in the middle: proved empty here and on the hosts, and the others go on."""

import time

from app.domain.states import Cause, JobStatus, Status
from tests.chaos.middle import GONE, Middle
from tests.lab.agents import look_at_agent, look_at_agents, look_at_locks, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.installation import Installation, by_cause, wait_for

HOSTS = 20
STOPPED_WITHIN = 10.0  # seconds from the revoke until it is proved


def test_a_revoked_job_is_proved_stopped_on_every_host(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    middle = Middle(installation, lab_hosts(HOSTS))

    middle.accident()
    installation.revoke(middle.job)
    assert installation.job(middle.job).status is JobStatus.TERMINATED
    installation.finish(middle.job, STOPPED_WITHIN)
    took = time.monotonic() - middle.since

    assert installation.leftovers([middle.run], middle.hosts) == []
    left = {a: seen for a, seen in look_at_agents(middle.hosts).items() if seen != GONE}
    assert not left, f"not put back: {left}"
    middle.check_told(Cause.CANCELLED)
    print(f"\n  proved stopped after {took:.1f} s", end=" ")
    middle.finish_the_rest()


def test_five_of_twenty_are_revoked_and_fifteen_go_on(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    hosts = lab_hosts(HOSTS)
    middle = Middle(installation, hosts)
    revoked, silent, others = hosts[:5], hosts[5], hosts[6:]
    running = look_at_agents(others)

    middle.accident()
    installation.revoke(middle.job, revoked)
    wait_for(
        lambda: len(by_cause(installation.parts(middle.job))) == len(revoked),
        lambda: installation.describe(middle.job),
        STOPPED_WITHIN,
    )
    print(f"\n  proved stopped after {time.monotonic() - middle.since:.1f} s", end=" ")
    assert look_at_locks(revoked) == []
    assert set(look_at_agents(revoked).values()) == {GONE}
    assert by_cause(installation.parts(middle.job)) == {h.address: Cause.CANCELLED for h in revoked}
    assert installation.job(middle.job).status is JobStatus.RUNNING
    assert look_at_agents(others) == running, "the hosts that go on were disturbed"

    silent.cut_network()
    installation.revoke(middle.job, [silent])
    part = wait_for(
        lambda: finished(installation, middle.job, silent.address),
        lambda: installation.describe(middle.job),
        60,
    )
    assert part == (Status.FAILED, Cause.LOST), "nobody could ask that host"
    open_gates(others)

    assert installation.finish(middle.job) is JobStatus.PART_FAILED
    parts = installation.parts(middle.job)
    assert {parts[host.address].status for host in others} == {Status.SUCCESS}
    after = look_at_agents(others)
    assert {a: seen.pid for a, seen in after.items()} == {a: s.pid for a, s in running.items()}
    assert by_cause(parts) == {h.address: Cause.CANCELLED for h in revoked} | {
        silent.address: Cause.LOST
    }
    logins = [host.logins() for host in others]

    silent.restore_network()
    middle.finish_the_rest()
    assert [host.logins() for host in others] == logins, "the retry visited hosts that were done"
    assert look_at_agent(silent).state == "active"


def finished(installation: Installation, job: int, address: str) -> tuple[Status, object] | None:
    part = installation.parts(job)[address]
    return (part.status, part.cause) if part.status.is_final else None
