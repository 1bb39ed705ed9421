"""What the profile of an account prints is not mistaken for what our program answers."""

from app.domain.states import JobStatus, Status
from tests.lab.agents import look_at_agent
from tests.lab.fixtures import LabHosts
from tests.lab.installation import Installation

ANSWER = '{"changed": true, "failed": true, "cause": "auth", "phases": []}'
PROFILES = {
    "before": f"echo '{ANSWER}'\n",
    "after": "trap \"echo; echo '{...}'; echo '{}' >&2\" EXIT\n",
    "both": "echo '{'\necho '{}' >&2\ntrap \"echo '}'\" EXIT\n",
    "colours": "printf '\\033[2J\\033[K{\"uuid\": 1}\\033[K\\n'\n",
}


def test_an_install_succeeds_whatever_the_profile_prints(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    hosts = lab_hosts(len(PROFILES))
    for host, profile in zip(hosts, PROFILES.values(), strict=True):
        host.write("/root/.bashrc", profile)
        assert "{" in host.run("bash", "-c", ". /root/.bashrc").stdout

    job_id = installation.install(hosts, installation.agents.steady())

    assert installation.finish(job_id) is JobStatus.SUCCESS, installation.describe(job_id)
    for part in installation.parts(job_id).values():
        assert part.status is Status.SUCCESS
        assert part.after is not None
        assert part.after["release"]["version"] == "1.0.0"
    assert {look_at_agent(host).state for host in hosts} == {"active"}
