"""A person installs a host by hand: one command, pasted on the real host."""

import socket
from typing import Any

from tests.lab.agents import look_at_agent, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import Lab
from tests.lab.installation import Installation, wait_for
from tests.lab.ssh import ssh

PORT = 7007  # of the gated agent


def test_the_command_of_a_manual_install_is_pasted_on_the_host(
    lab: Lab, lab_hosts: LabHosts, installation: Installation
) -> None:
    """It installs, reports and ends the job; pasted again it changes nothing and says why.

    What is there then is there for good, as on any other host: it outlives a loss of power.
    """
    version = installation.agents.gated()
    (host,) = lab_hosts(1)
    open_gates([host])
    row: dict[str, Any] = {
        "bk_biz_id": 2, "bk_cloud_id": 0, "ap_id": -1, "is_manual": True, "os_type": "LINUX",
        "inner_ip": host.address,
    }  # fmt: skip
    started = installation.ask(
        "/api/job/install/",
        job_type="INSTALL_AGENT",
        hosts=[row],
        agent_setup_info={"version": version},
    )
    job = f"/api/job/{started['job_id']}"
    (waiting,) = installation.ask(f"{job}/details/")["list"]
    assert (waiting["status"], waiting["is_manual"]) == ("RUNNING", True)
    handed_out = installation.ask(f"{job}/get_job_commands/", bk_host_id=waiting["bk_host_id"])
    (solution,) = handed_out["solutions"]
    command = solution["steps"][0]["contents"][0]["text"]
    assert f"http://{lab.bridge_address}:" in command, "the address is the one this host sees"

    pasted = ssh(host, command, user="ops", password=host.password)

    assert pasted.returncode == 0, pasted.stdout + pasted.stderr
    assert (pasted.stdout.splitlines()[-1], pasted.stderr) == (
        f"The agent {version} is installed.",
        "",
    )
    agent = look_at_agent(host)
    assert (agent.state, agent.version) == ("active", version)
    socket.create_connection((host.address, PORT), timeout=60).close()
    details = installation.over(started["job_id"])
    assert details["status"] == "SUCCESS"
    assert details["job_type"] == "MANUAL_INSTALL_AGENT"
    (told,) = details["list"]
    assert (told["status"], told["reason"]) == ("SUCCESS", "reported by the host")
    (step,) = installation.ask(f"{job}/log/", instance_id=told["instance_id"])
    assert (step["step"], step["status"]) == ("Install", "SUCCESS")
    assert pasted.stdout.splitlines()[-1] in step["log"]
    assert step["finish_time"]
    known = installation.hosts()[host.address]
    assert (known.agent_status, known.agent_version) == ("RUNNING", version)
    assert (known.hostname, known.cpu_arch) == (host.name, "x86_64")

    before = host.changed_files()
    again = ssh(host, command, user="ops", password=host.password)
    no_sudo = "mkdir /run/no_sudo && ln -s /usr/bin/curl /usr/bin/python3 /run/no_sudo"
    by_root = ssh(
        host, f"{no_sudo} && PATH=/run/no_sudo && {command}", user="root", password=host.password
    )

    for refused in (again, by_root):
        assert refused.returncode == 1
        assert "has been used" in refused.stderr
    assert look_at_agent(host) == agent
    assert host.changed_files() == before
    assert installation.ask(f"{job}/details/")["list"] == [told]

    host.kill()
    host.start()

    wait_for(lambda: look_at_agent(host)[0:3:2] == ("active", version), "the agent starts again")
