"""What a program does over REST, and whether it is so on the hosts."""

from tests.lab.agents import is_starting, look_at_agent, look_at_agents, on_all
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, wait_for


def test_a_job_is_submitted_retried_followed_and_revoked_over_rest(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    """One host is broken and mended; the other is touched by what is asked of it and no more."""
    ask = installation.ask
    first, second = installation.agents.steady(), installation.agents.gated()
    good, broken = hosts = lab_hosts(2)
    rows = [
        installation.row(good, retention=0),  # its login ends with the job
        installation.row(broken, retention=0, password="not-the-password"),
    ]

    job = ask("/api/job/install/", job_type="INSTALL_AGENT", hosts=rows)["job_id"]
    details = installation.over(job)

    agent = look_at_agent(good)
    assert (agent.state, agent.version) == ("active", first)
    assert look_at_agent(broken) == ("inactive", 0, "")
    assert broken.logins() == []
    assert (details["status"], details["total"]) == ("PART_FAILED", 2)
    assert details["statistics"]["success_count"] == details["statistics"]["failed_count"] == 1
    told = {row["ip"]: row for row in details["list"]}
    ids = {address: row["bk_host_id"] for address, row in told.items()}
    failed = told[broken.address]
    assert (told[good.address]["status"], told[good.address]["cause"]) == ("SUCCESS", None)
    assert (failed["status"], failed["cause"]) == ("FAILED", "auth")
    assert "did not accept the login" in failed["reason"]
    steps = ask(f"/api/job/{job}/log/", instance_id=failed["instance_id"])
    assert [failed["reason"] in step["log"] for step in steps if step["status"] == "FAILED"] == [
        True
    ]

    untouched = (good.logins(), good.changed_files())
    login = {"bk_host_id": ids[broken.address], "account": "root", "port": broken.port}
    login |= {"auth_type": "PASSWORD", "password": broken.password, "retention": 0}
    tasks = ask(f"/api/job/{job}/retry/", hosts=[login])
    details = installation.over(job)

    assert (look_at_agent(broken).state, look_at_agent(broken).version) == ("active", first)
    assert len(broken.logins()) == 1
    assert (good.logins(), good.changed_files()) == untouched
    assert look_at_agent(good) == agent
    assert (details["status"], details["task_id_list"]) == ("SUCCESS", tasks)
    assert len(tasks) == 2
    assert installation.call(f"/api/job/{job}/retry/", {})["code"] == 3800007

    before = look_at_agents(hosts)
    on_all(LabHost.break_password, hosts)
    job = ask("/api/job/operate/", job_type="RESTART_AGENT", bk_host_id=[*ids.values()])["job_id"]
    details = installation.over(job)

    restarted = look_at_agents(hosts)
    assert {seen.state for seen in restarted.values()} == {"active"}
    assert all(restarted[a].pid != before[a].pid for a in before), installation.describe(job)
    assert all("Accepted publickey" in host.logins()[-1] for host in hosts)
    assert (details["status"], details["job_type"]) == ("SUCCESS", "RESTART_AGENT")

    upgrade = {"job_type": "UPGRADE_AGENT", "agent_setup_info": {"version": second}}
    job = ask("/api/job/operate/", **upgrade, bk_host_id=[*ids.values()])["job_id"]
    wait_for(lambda: all(on_all(is_starting, hosts)), lambda: installation.describe(job))
    wait_for(
        lambda: {seen.version for seen in look_at_agents(hosts).values()} == {second},
        lambda: installation.describe(job),
    )
    ask(f"/api/job/{job}/revoke/")
    stopping = ask(f"/api/job/{job}/details/")["status"]
    details = installation.over(job)

    runs = {run.id for run in installation.runs(job)}
    assert installation.leftovers(runs, hosts) == []
    put_back = look_at_agents(hosts)
    assert {(seen.state, seen.version) for seen in put_back.values()} == {("active", first)}
    assert stopping in ("TERMINATED", "FAILED")
    assert details["status"] == "FAILED"
    assert {(row["status"], row["cause"]) for row in details["list"]} == {("FAILED", "cancelled")}
    assert installation.call(f"/api/job/{job}/revoke/", {})["code"] == 3800016
