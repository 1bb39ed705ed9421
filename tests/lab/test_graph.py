"""Several stages, rollouts, skip, cancel and rollback on real hosts, asked for in OCP's words."""

import json
from collections.abc import Sequence
from typing import Any

import requests

from app.domain.commands import NextStage
from app.domain.rollout import Rollout
from app.domain.states import Cause, JobStatus
from tests.lab.agents import close_gates, look_at_agent, look_at_agents, on_all, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, by_cause, wait_for

BLOCKED = "/srv/blocked"  # a file where a folder should be: the second stage fails there
TASK_SECONDS = 120


class Ocp:
    """Somebody who speaks OCP's task API, with the administrator's name and password."""

    def __init__(self, installation: Installation) -> None:
        admin = json.loads((installation.data_dir / "admin.json").read_text())
        self.url = f"{admin['url']}/api/v2/tasks/instances"
        self.login = (admin["username"], admin["password"])

    def task(self, task_id: int) -> dict[str, Any]:
        return self._ok(requests.get(f"{self.url}/{task_id}", auth=self.login, timeout=30))

    def subtasks(self, task_id: int) -> list[dict[str, Any]]:
        return sorted(self.task(task_id)["subtasks"], key=lambda subtask: subtask["seriesId"])

    def statuses(self, task_id: int) -> list[str]:
        return [subtask["status"] for subtask in self.subtasks(task_id)]

    def ask(self, task_id: int, operation: str, subtask_id: int | None = None) -> Any:
        return self._ok(self.try_to(task_id, operation, subtask_id))

    def try_to(
        self, task_id: int, operation: str, subtask_id: int | None = None
    ) -> requests.Response:
        middle = "" if subtask_id is None else f"/subtasks/{subtask_id}"
        url = f"{self.url}/{task_id}{middle}/{operation}"
        return requests.post(url, auth=self.login, timeout=30)

    def ended(self, task_id: int) -> str:
        """The task's status once nothing of it is alive."""
        return wait_for(
            lambda: (status := self.task(task_id)["status"]) != "RUNNING" and status,
            lambda: self.task(task_id),
            TASK_SECONDS,
        )

    def _ok(self, answer: requests.Response) -> Any:
        said = answer.json()
        assert answer.status_code == 200, said
        assert said["successful"] is True
        return said.get("data")


def three_stages(installation: Installation, hosts: Sequence[LabHost], version: str) -> int:
    """Install, then a reload whose configuration fails where BLOCKED is a file, then a restart."""
    then = (
        NextStage(job_type="RELOAD_AGENT", values={"data_path": f"{BLOCKED}/data"}),
        NextStage(job_type="RESTART_AGENT"),
    )
    return installation.install(hosts, version, then=then)


def task_of(installation: Installation, job_id: int) -> int:
    return max(run.task_id for run in installation.runs(job_id))


def block(hosts: Sequence[LabHost]) -> None:
    on_all(lambda host: host.write(BLOCKED, "in the way"), hosts)


def unblock(hosts: Sequence[LabHost]) -> None:
    on_all(lambda host: host.run("rm", "-f", BLOCKED), hosts)


def test_ten_of_twelve_go_on_and_a_subtask_retry_brings_the_other_two(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    ocp = Ocp(installation)
    version = installation.agents.steady()
    hosts = lab_hosts(12)
    stuck, free = hosts[:2], hosts[2:]
    block(stuck)
    at_first = on_all(times_started, hosts)

    job = three_stages(installation, hosts, version)

    assert installation.finish(job) is JobStatus.PART_FAILED, installation.describe(job)
    task = task_of(installation, job)
    assert ocp.statuses(task) == ["SUCCESSFUL", "FAILED", "PENDING"]
    installed = look_at_agents(hosts)
    assert {seen.state for seen in installed.values()} == {"active"}
    starts = starts_since(at_first, hosts)
    assert starts[:2] == [1, 1], "the stuck ones were only installed"
    assert min(starts[2:]) > 1, "the others were reloaded and restarted too"
    free_logins = on_all(lambda host: len(host.logins()), free)

    unblock(stuck)
    second = ocp.subtasks(task)[1]
    retried = ocp.ask(task, "retry", second["id"])

    assert (retried["operation"], retried["runTime"]) == ("RETRY", second["runTime"] + 1)
    assert ocp.ended(task) == "SUCCESSFUL", installation.describe(job)
    assert installation.finish(job) is JobStatus.SUCCESS
    assert on_all(lambda host: len(host.logins()), free) == free_logins
    assert {a: s for a, s in look_at_agents(free).items()} == {
        host.address: installed[host.address] for host in free
    }
    assert all(host.exists(f"{BLOCKED}/data") for host in hosts)
    assert min(starts_since(at_first, stuck)) > 1


def test_a_skipped_subtask_lets_the_others_go_on_without_its_hosts(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    ocp = Ocp(installation)
    version = installation.agents.steady()
    hosts = lab_hosts(3)
    block(hosts[:1])
    job = three_stages(installation, hosts, version)
    installation.finish(job)
    task = task_of(installation, job)
    before = look_at_agent(hosts[0])

    ocp.ask(task, "skip", ocp.subtasks(task)[1]["id"])

    assert ocp.ended(task) == "SUCCESSFUL"
    assert ocp.statuses(task) == ["SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL"]
    assert look_at_agent(hosts[0]) == before
    parts = installation.parts(job)
    assert "skipped" in parts[hosts[0].address].reason


def test_a_cancelled_subtask_leaves_nothing_running_and_can_be_tried_again(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    ocp = Ocp(installation)
    version = installation.agents.gated()
    hosts = lab_hosts(4)
    job = installation.install(hosts, version)
    wait_for(
        lambda: all(seen.state == "active" for seen in look_at_agents(hosts).values()),
        lambda: installation.describe(job),
    )
    task = task_of(installation, job)
    (subtask,) = ocp.subtasks(task)

    ocp.ask(task, "cancel", subtask["id"])

    assert ocp.ended(task) == "FAILED"
    nothing_is_left(installation, job, hosts)
    assert {seen.state for seen in look_at_agents(hosts).values()} == {"inactive"}
    assert set(by_cause(installation.parts(job)).values()) == {Cause.CANCELLED}

    open_gates(hosts)
    ocp.ask(task, "retry", subtask["id"])

    assert ocp.ended(task) == "SUCCESSFUL", installation.describe(job)
    assert {seen.state for seen in look_at_agents(hosts).values()} == {"active"}


def test_a_rollback_brings_the_old_release_back_or_leaves_none(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    ocp = Ocp(installation)
    old, new = installation.agents.steady(), installation.agents.steady("1.1.0")
    hosts = lab_hosts(4)
    had_one, had_none = hosts[:2], hosts[2:]
    assert installation.finish(installation.install(had_one, old)) is JobStatus.SUCCESS
    config = on_all(lambda host: host.read("/opt/hostler/agent/etc/agent.env"), had_one)
    block(hosts[:1])
    job = three_stages(installation, hosts, new)
    assert installation.finish(job) is JobStatus.PART_FAILED, installation.describe(job)
    task = task_of(installation, job)
    assert {seen.version for seen in look_at_agents(hosts).values()} == {new}
    unblock(hosts[:1])

    ocp.ask(task, "rollback")

    assert ocp.ended(task) == "SUCCESSFUL", installation.describe(job)
    shown = ocp.task(task)
    assert shown["operation"] == "ROLLBACK"
    assert set(ocp.statuses(task)) == {"PENDING"}
    agents = look_at_agents(hosts)
    assert {(agents[h.address].state, agents[h.address].version) for h in had_one} == {
        ("active", old)
    }
    assert {(agents[h.address].state, agents[h.address].version) for h in had_none} == {
        ("inactive", "")
    }
    assert on_all(lambda h: h.read("/opt/hostler/agent/etc/agent.env"), had_one) == config
    key = installation.standing_key().split()[1]
    assert [key in host.read("/root/.ssh/authorized_keys") for host in hosts] == [
        True, True, False, False,
    ]  # fmt: skip
    known = installation.hosts()
    assert [known[host.address].agent_version for host in hosts] == [old, old, None, None]


def test_a_rollback_that_was_cancelled_goes_on_backwards_when_it_is_retried(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    ocp = Ocp(installation)
    old, new = installation.agents.gated(), installation.agents.steady("1.1.0")
    (host,) = hosts = lab_hosts(1)
    open_gates(hosts)
    assert installation.finish(installation.install(hosts, old)) is JobStatus.SUCCESS
    close_gates(hosts)
    block(hosts)
    job = three_stages(installation, hosts, new)
    assert installation.finish(job) is JobStatus.FAILED, installation.describe(job)
    task = task_of(installation, job)
    unblock(hosts)

    ocp.ask(task, "rollback")  # the old agent never becomes ready while its gate is closed
    first = wait_for(
        lambda: ocp.subtasks(task)[0]["status"] == "RUNNING" and ocp.subtasks(task)[0],
        lambda: ocp.task(task),
    )
    wait_for(lambda: look_at_agent(host).version == old, lambda: installation.describe(job))
    ocp.ask(task, "cancel", first["id"])

    assert ocp.ended(task) == "FAILED"
    assert ocp.subtasks(task)[0]["status"] == "FAILED"
    assert look_at_agent(host).version == new
    nothing_is_left(installation, job, hosts)

    open_gates(hosts)
    ocp.ask(task, "retry", first["id"])

    assert ocp.ended(task) == "SUCCESSFUL", installation.describe(job)
    assert look_at_agent(host)[0:3:2] == ("active", old)
    assert set(ocp.statuses(task)) == {"PENDING"}


def test_a_canary_that_fails_stops_the_rollout_before_any_other_host(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    hosts = lab_hosts(6)
    before = on_all(lambda host: (host.logins(), host.changed_files()), hosts[1:])
    rollout = Rollout(canary=1, batches=(50, 100), max_failed=50, in_percent=True)

    job = installation.install(hosts, installation.agents.doomed(), rollout=rollout)

    assert installation.finish(job) is JobStatus.FAILED, installation.describe(job)
    assert on_all(lambda host: (host.logins(), host.changed_files()), hosts[1:]) == before
    parts = installation.parts(job)
    assert parts[hosts[0].address].cause is Cause.AGENT_EXITED
    assert {parts[host.address].cause for host in hosts[1:]} == {Cause.NOT_STARTED}
    assert all("canary" in parts[host.address].reason for host in hosts[1:])


def test_a_rollout_waits_for_a_person_where_it_should(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    ocp = Ocp(installation)
    hosts = lab_hosts(4)
    rollout = Rollout(canary=1, confirm=True)

    job = installation.install(hosts, installation.agents.steady(), rollout=rollout)

    wait_for(
        lambda: look_at_agent(hosts[0]).state == "active" and not installation.locks(job),
        lambda: installation.describe(job),
    )
    task = task_of(installation, job)
    assert ocp.task(task)["status"] == "RUNNING"
    assert {seen.state for seen in look_at_agents(hosts[1:]).values()} == {"inactive"}

    wait_for(lambda: ocp.try_to(task, "confirm").status_code == 200, lambda: ocp.task(task))

    assert ocp.ended(task) == "SUCCESSFUL", installation.describe(job)
    assert {seen.state for seen in look_at_agents(hosts).values()} == {"active"}


def nothing_is_left(installation: Installation, job_id: int, hosts: Sequence[LabHost]) -> None:
    """No process of the job's runs here, no lock and no session of them on its hosts."""
    runs = {run.id for run in installation.runs(job_id)}
    wait_for(
        lambda: not installation.leftovers(runs, hosts),
        lambda: installation.leftovers(runs, hosts),
        within=10,
    )


def starts_since(before: list[int], hosts: Sequence[LabHost]) -> list[int]:
    """How often each host's agent has started since then."""
    return [now - then for now, then in zip(on_all(times_started, hosts), before, strict=False)]


def times_started(host: LabHost) -> int:
    """How often this host's service manager has started the agent."""
    journal = host.run(
        "journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=hostler-agent.service",
        check=False,
    ).stdout  # fmt: skip
    return journal.count("Started ")
