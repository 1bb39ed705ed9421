"""What callers send reaches a host as data, whatever it looks like; or it is refused."""

from pathlib import Path

import pytest

from app.domain.states import JobStatus, Status
from tests.lab.agents import config_of, look_at_agent, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, password_login

OWNED = Path("/tmp/hostler-owned")
TOUCH = f"touch {OWNED}"
LITERAL = (
    f"/srv/{{{{ lookup('pipe', '{TOUCH}') }}}}",
    f"/srv/$({TOUCH})`{TOUCH}`;{TOUCH} #%s%%n",
    '/srv/it\'s a "data" \\ path ${HOME} $HOME',
    "/srv/{% raw %}ünïcode {# no #} &|<>*?[a]~",
)
REFUSED = (
    f"/srv/line\nExecStartPre={TOUCH}",
    f"-oProxyCommand={TOUCH}",
    "/srv/../../etc",
)


@pytest.fixture(autouse=True)
def nothing_is_owned() -> None:
    OWNED.unlink(missing_ok=True)


def test_a_hostile_data_path_is_a_folder_of_that_name_or_refused(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    hosts = lab_hosts(len(LITERAL) + len(REFUSED))
    open_gates(hosts)
    literal, refused = hosts[: len(LITERAL)], hosts[len(LITERAL) :]
    specs = [
        installation.spec(host, values={"data_path": path})
        for host, path in zip(hosts, LITERAL + REFUSED, strict=True)
    ]

    job = installation.install(specs, installation.agents.gated())

    assert installation.finish(job) is JobStatus.PART_FAILED, installation.describe(job)
    installation.forget_values(hosts)
    parts = installation.parts(job)
    for host, path in zip(literal, LITERAL, strict=True):
        seen = look_at_agent(host)
        assert seen.state == "active", parts[host.address].reason
        assert host.exists(path), f"no folder of exactly this name: {path}"
        assert config_of(host)["DATA_PATH"] == path
        arguments = host.run("cat", f"/proc/{seen.pid}/cmdline").stdout.split("\0")
        assert f"--data={path}" in arguments
        environment = host.run("cat", f"/proc/{seen.pid}/environ").stdout.split("\0")
        assert f"DATA_PATH={path}" in environment
    for host in refused:
        part = parts[host.address]
        assert part.status is Status.FAILED
        assert "is no absolute path" in part.reason
        assert look_at_agent(host).pid == 0
    check_nothing_is_owned(hosts)


def test_hostile_accounts_and_passwords_harm_nobody_else_in_the_run(
    lab_hosts: LabHosts, installation: Installation
) -> None:
    accounts = (f"-oProxyCommand={TOUCH}", f"root;{TOUCH}", f"{{{{ lookup('pipe','{TOUCH}') }}}}")
    installation.agents.steady()
    good, *bad = hosts = lab_hosts(len(accounts) + 2)
    logins = [password_login(host, account) for host, account in zip(bad, accounts, strict=False)]
    logins.append(password_login(bad[-1], password=f"$({TOUCH}){{{{ lookup('pipe','{TOUCH}') }}}}"))
    specs = [installation.spec(host, login=login) for host, login in zip(bad, logins, strict=True)]

    job = installation.install([installation.spec(good), *specs])

    assert installation.finish(job) is JobStatus.PART_FAILED, installation.describe(job)
    assert look_at_agent(good).state == "active", installation.describe(job)
    parts = installation.parts(job)
    for host in bad:
        assert parts[host.address].status is Status.FAILED
        assert parts[host.address].cause == "auth", parts[host.address].reason
        assert host.logins() == []
    check_nothing_is_owned(hosts)


@pytest.mark.parametrize("field", ["inner_ip", "login_ip", "outer_ip"])
def test_an_address_that_is_an_option_of_ssh_is_refused_by_name(
    installation: Installation, field: str
) -> None:
    row = {
        "bk_biz_id": 2, "bk_cloud_id": 0, "ap_id": 1, "os_type": "LINUX", "inner_ip": "192.0.2.1",
        "account": "root", "port": 22, "auth_type": "PASSWORD", "password": "secret",
        field: f"-oProxyCommand={TOUCH}",
    }  # fmt: skip
    jobs = installation.call("/api/job/job_list/", {"page": 1, "pagesize": 1})["data"]["total"]

    answer = installation.call("/api/job/install/", {"job_type": "INSTALL_AGENT", "hosts": [row]})

    assert not answer["result"]
    assert field in answer["message"] + str(answer.get("errors")), answer
    again = installation.call("/api/job/job_list/", {"page": 1, "pagesize": 1})["data"]["total"]
    assert again == jobs, "a refused call left a job"
    assert not OWNED.exists()


def check_nothing_is_owned(hosts: list[LabHost]) -> None:
    assert not OWNED.exists(), "a caller's value was executed on the controller"
    assert not [host for host in hosts if host.exists(str(OWNED))]
