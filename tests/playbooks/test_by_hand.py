"""The playbooks, run as an operator runs them: by ansible-playbook, with the files as they are."""

import configparser
import json
import math
import os
import re
import subprocess
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import yaml

from app.domain.catalogue import CATALOGUE, Executor
from tests.packages.agents import EXITS
from tests.playbooks.conftest import Package
from tests.playbooks.host import CHECKOUT, PYTHON, Host, ansible_playbook, statuses
from tests.security.hostile import hostile_python

PLAYBOOKS = sorted(path.stem for path in (CHECKOUT / "playbooks").glob("*.yml"))
NOT_A_JOB_TYPE = {"release_hosts", "roll_back"}  # what a cancel and a rollback run


def test_every_job_type_that_acts_on_hosts_has_its_playbook() -> None:
    wanted = {
        job_type.playbook
        for job_type in CATALOGUE.values()
        if job_type.executor is Executor.PLAYBOOK
    }

    assert set(PLAYBOOKS) - NOT_A_JOB_TYPE == wanted


def test_every_phase_of_the_role_is_a_step_of_its_job_type(host: Host, package: Package) -> None:
    archive = package("1.0")
    for name in ("INSTALL", "UPGRADE", "RESTART", "RELOAD", "ACTIVATE", "UNINSTALL", "IMPORT"):
        job_type = CATALOGUE[f"{name}_AGENT"]
        action = {"IMPORT": "detect"}.get(name, name.lower())
        phases = [p["key"] for p in host.perform(action, package_file=archive)["phases"]]
        assert phases == [step.key for step in job_type.steps], name


def test_every_playbook_can_be_read() -> None:
    paths = [f"playbooks/{name}.yml" for name in PLAYBOOKS]
    done = ansible(*paths, "--syntax-check")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_costs_one_task_on_every_host(name: str) -> None:
    listed = ansible(f"playbooks/{name}.yml", "--list-tasks").stdout

    assert listed.count("TAGS:") - listed.count("play #") == 1


def test_install_upgrade_and_uninstall_by_hand(host: Host, package: Package) -> None:
    good, bad = package("1.0"), package("2.0", EXITS)

    first = host.playbook("install_agent", hostler_package_file=good)
    assert first["cause"] is None, first
    assert host.release == "1.0"
    pid, files = host.pid, host.files()

    again = host.playbook("install_agent", hostler_package_file=good)
    assert not again["changed"]
    assert (host.pid, host.files()) == (pid, files)

    failed = host.playbook("upgrade_agent", hostler_package_file=bad)
    assert failed["cause"] == "agent_exited"
    assert failed["restored"]
    assert host.release == "1.0"

    gone = host.playbook("uninstall_agent")
    assert list(statuses(gone)) == ["check", "stop", "remove", "verify"]
    assert not host.base.exists()


def test_reinstall_deploys_again(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.playbook("install_agent", hostler_package_file=archive)
    pid = host.pid

    result = host.playbook("reinstall_agent", hostler_package_file=archive)

    assert statuses(result)["unpack"] == "ok"
    assert host.pid != pid


@pytest.mark.parametrize(("said", "listens"), [(None, "127.0.0.9"), ("", ""), ("127.0.0.8",) * 2])
def test_an_agent_installed_by_hand_listens_where_its_host_is_entered(
    host: Host, package: Package, said: str | None, listens: str
) -> None:
    settings = {"ansible_host": "127.0.0.9", "hostler_config": {"address": said}}
    result = host.playbook("install_agent", hostler_package_file=package("1.0"), **settings)

    assert result["cause"] is None, result
    assert json.loads((host.base / "values.json").read_text()).get("address", "") == listens


def test_a_limit_from_a_file_touches_only_the_hosts_that_failed(
    host: Host, package: Package, tmp_path: Path
) -> None:
    broken = {"host_2": {"ansible_connection": "local", "hostler_token": "none of ours"}}
    settings = {"hostler_package_file": package("1.0"), "ansible_python_interpreter": PYTHON}
    host.environment |= {
        "ANSIBLE_RETRY_FILES_ENABLED": "1",
        "ANSIBLE_RETRY_FILES_SAVE_PATH": str(tmp_path),
    }

    first = host.play_all(CHECKOUT / "playbooks/install_agent.yml", others=broken, **settings)
    limit = tmp_path / "install_agent.retry"
    assert limit.read_text().split() == ["host_2"]
    again = host.play_all(
        CHECKOUT / "playbooks/install_agent.yml", f"--limit=@{limit}", others=broken, **settings
    )

    assert "host_1" in first
    assert "host_1" not in again
    assert "host_2" in again


def test_check_and_diff_by_hand(host: Host, package: Package) -> None:
    result = host.playbook(
        "install_agent", "--check", "--diff", hostler_package_file=package("1.0")
    )

    assert result["changed"]
    assert not host.base.exists()


def test_a_package_file_that_is_not_there_is_named(host: Host) -> None:
    result = host.playbook("install_agent", hostler_package_file="/nowhere/agent.tar.gz")

    assert "There is no package /nowhere/agent.tar.gz" in result["msg"]


def test_a_host_runs_the_python_its_inventory_names(host: Host) -> None:
    result = host.playbook("import_agent", ansible_python_interpreter="/nowhere/python3")

    assert "'/nowhere/python3' was not found" in result["msg"]


def test_a_host_the_work_is_delegated_to_has_a_python_of_its_own(host: Host) -> None:
    tasks = [{"hostler_package": {"action": "detect"}, "delegate_to": "elsewhere"}]
    playbook = host.root.parent / "delegated.json"
    playbook.write_text(json.dumps([{"hosts": "host_1", "gather_facts": False, "tasks": tasks}]))
    elsewhere = {"ansible_connection": "local", "ansible_python_interpreter": "/nowhere/python3"}

    result = host.play(playbook, others={"elsewhere": elsewhere}, ansible_python_interpreter=PYTHON)

    assert "'/nowhere/python3' was not found" in result["msg"]


def test_without_pipelining_the_program_goes_as_a_file_and_is_gone_afterwards(host: Host) -> None:
    settings = {"ansible_pipelining": False, "ansible_remote_tmp": f"{host.root}/ansible"}

    result = host.playbook("import_agent", **settings)

    assert result["phases"]
    assert not list(Path(host.root, "ansible").glob("**/*.py"))


PHASE = {"key": "check", "status": "ok", "changed": False, "log": "", "seconds": 1}
RELEASE = {"version": "1", "sha256": "", "path": ""}


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"changed": True}, "it has no phases"),
        ({"phases": "none"}, "phases of the answer is of the wrong kind"),
        ({"phases": ["check"]}, "a phase is no object"),
        ({"phases": [PHASE | {"log": None}]}, "log of a phase is of the wrong kind"),
        ({"phases": [PHASE | {"seconds": math.nan}]}, "seconds are no length of time"),
        ({"phases": [PHASE | {"seconds": 1e300}]}, "seconds are no length of time"),
        ({"phases": [{"key": "check"}]}, "a phase has no changed"),
        ({"phases": [PHASE], "after": []}, "after of the answer is of the wrong kind"),
        ({"phases": [PHASE], "after": {"hostname": 1}}, "hostname of after is of the wrong kind"),
        ({"phases": [PHASE], "before": {"release": {"version": "1"}}}, "the release has no path"),
    ],
)
def test_an_answer_our_program_does_not_give_is_that_hosts_failure(
    host: Host, tmp_path: Path, answer: dict[str, Any], what: str
) -> None:
    result = host.playbook("install_agent", ansible_python_interpreter=liar(tmp_path, answer))

    assert result["msg"].startswith("The host's answer is not one our program gives: ")
    assert what in result["msg"]


def test_whatever_our_program_answers_is_known(host: Host, package: Package) -> None:
    answers = run_path(str(CHECKOUT / "roles/package/files/answers.py"))
    program = (CHECKOUT / "roles/package/files/hostler/work.py").read_text()
    assert set(re.findall(r'self\.result\["(\w+)"\]', program)) <= answers["ANSWER"].keys()
    archive = package("1.0")

    for action in ("install", "restart", "upgrade", "reload", "detect", "release", "uninstall"):
        answer = host.perform(action, package_file=archive)
        assert answers["checked"](answer) == answer, action


def test_of_an_answer_only_what_our_program_says_counts(host: Host, tmp_path: Path) -> None:
    mine = {"phases": [PHASE], "reason": "ok", "after": {"release": RELEASE}}
    more = {"ansible_facts": {"ansible_python_interpreter": "/evil"}, "unreachable": True}
    python = liar(tmp_path, mine | more | {"add_host": {"host_name": "evil"}})

    result = host.playbook("install_agent", ansible_python_interpreter=python)

    assert result == mine | {"changed": False}


@pytest.mark.parametrize(
    "does",
    [
        "answer({'phases': [], 'failed': True, 'reason': said, 'msg': said})",
        "print(said); print(said, file=sys.stderr)",
        "print('{}' + said); honest(); print('{' + said + '}')",
        "answer(said)",
    ],
)
def test_what_a_host_says_does_not_control_the_terminal_of_who_runs_it(
    host: Host, tmp_path: Path, does: str
) -> None:
    text = "red \x1b[31m \x1b]0;title\x07 \x9b2J \u202egnp.exe"
    python = hostile_python(tmp_path / "python", f"said = {text!r}\n{does}\n")

    shown = host.play_all(
        CHECKOUT / "playbooks/import_agent.yml", ansible_python_interpreter=python
    )

    assert "host_1" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]|\\\\e|x1b|x9b", shown)


PRINTS = """
print('{"changed": true, "phases": [], "failed": false}', flush=True)
honest()
print('{"changed": true, "phases": [], "failed": true, "cause": "auth"}')
print("{...}", file=sys.stderr)
"""


def test_a_profile_may_print_what_it_likes(host: Host, tmp_path: Path, package: Package) -> None:
    python = hostile_python(tmp_path / "python", PRINTS)

    result = host.playbook(
        "install_agent",
        ansible_python_interpreter=python,
        hostler_package_file=str(package("1.0")),
    )

    assert [phase["status"] for phase in result["phases"]].count("ok") > 3
    assert result["after"]["release"]["version"] == "1.0"


def liar(folder: Path, answer: dict[str, Any]) -> str:
    """A Python that answers this whatever it is asked."""
    return hostile_python(folder / "python", f"answer({json.dumps(answer)!r})\n")


def test_an_argument_of_the_wrong_type_is_named(host: Host) -> None:
    result = host.playbook("import_agent", hostler_token="none of ours")

    assert "token is 'none of ours', which is no mapping." in result["msg"]


def test_releasing_by_hand_says_who_was_there(host: Host) -> None:
    token = {"origin": "here", "fence": 3, "run": 3, "task": 1, "attempt": 1}

    result = host.playbook("release_hosts", hostler_token=token)

    assert result["released"]
    assert result["holder"] == "Nothing of it was here."


def test_the_example_inventory_is_one(tmp_path: Path) -> None:
    example = CHECKOUT / "inventory_templates/example.yml"
    listed = subprocess.run(
        [
            str(Path(ansible_playbook()[0]).with_name("ansible-inventory")),
            *("-i", str(example), "--list", "--yaml"),
        ],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    hosts = yaml.safe_load(listed.stdout)["all"]["children"]["linux"]["hosts"]

    assert hosts["web1"]["ansible_user"] == "root"  # from group_vars beside it
    assert hosts["web2"]["ansible_become"] is True


@pytest.mark.parametrize("role", ["package", "agent", "proxy", "plugin"])
def test_a_roles_interface_is_declared_in_full(role: str) -> None:
    folder = CHECKOUT / "roles" / role
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())

    assert set(defaults) == set(specs["argument_specs"]["main"]["options"])


def test_the_readme_names_every_variable_of_a_host() -> None:
    defaults = (CHECKOUT / "roles/package/defaults/main.yml").read_text()
    readme = (CHECKOUT / "roles/package/README.md").read_text()

    for name in re.findall(r"hostler_\w+", defaults):
        assert f"`{name}`" in readme


def test_ansible_knows_every_setting_of_ours() -> None:
    command = str(Path(ansible_playbook()[0]).with_name("ansible-config"))
    done = subprocess.run(
        [command, "validate", "-t", "all"], cwd=CHECKOUT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_ssh_takes_our_options() -> None:
    """The key exchange list must be one every client accepts, and begin with a cheap one."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(CHECKOUT / "ansible.cfg")
    options = config["ssh_connection"]["ssh_args"].split()
    shown = subprocess.run(
        ["ssh", *options, "-G", "localhost"], capture_output=True, text=True, check=True
    ).stdout
    order = next(line for line in shown.splitlines() if line.startswith("kexalgorithms "))

    assert order.split()[1].split(",")[0] in ("mlkem768x25519-sha256", "curve25519-sha256")


def ansible(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ansible_playbook(), *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
    )
