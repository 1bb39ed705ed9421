"""Do the role's work on a host in one call; first send a package along when one is given by hand.

What the host runs is files/hostler, sent whole through ssh's stdin. Ansible's own way for modules
would bring several times as much of its library along, which every host would compile, and build it
anew in the worker of each.
"""

import base64
import json
import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from runpy import run_path
from typing import Any, NamedTuple

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.vars.clean import remove_internal_keys


class Argument(NamedTuple):
    """What the host is told: of which kind, which variables say it, and what it is otherwise."""

    kind: type
    variables: tuple[str, ...]  # the role's first
    default: Any = None


# Read here: each host's worker would compile templates in the task anew.
# Checked here, not by Ansible's own means, which copy everything several times.
ARGUMENTS = {
    "action": Argument(str, ("package_action",)),
    "name": Argument(str, ("package_service",), "agent"),
    "token": Argument(dict, ("package_token", "hostler_token")),
    "packages": Argument(list, ("package_candidates", "hostler_packages")),
    "package_file": Argument(str, ("package_file", "hostler_package_file")),
    "setup_path": Argument(str, ("package_setup_path", "hostler_setup_path"), "/opt/hostler"),
    "config": Argument(dict, ("package_config", "hostler_config"), {}),
    "fresh": Argument(bool, ("package_fresh", "hostler_fresh"), False),
    "standing_key": Argument(str, ("package_standing_key", "hostler_standing_key")),
    "account": Argument(str, ("package_account", "hostler_account", "ansible_user")),
    "service_manager": Argument(
        str, ("package_service_manager", "hostler_service_manager"), "auto"
    ),
    "deadline": Argument(int, ("package_deadline", "hostler_deadline"), 600),
}
OF_THE_SERVICE = ("action", "fresh")  # its own role may say these: agent_action, agent_fresh
THERE_ARE = ", ".join(ARGUMENTS)
NAMES = {bool: "yes or no", int: "whole number", dict: "mapping", list: "list"}
EVERYWHERE = "/usr/bin/python3"
PROFILE = "legacy"  # how Ansible writes and reads JSON for what is not a module of its own
PUTTING_BACK = 15  # seconds of the deadline that are for putting back what was there

# What the host's program answers. Whoever reads it may rely on that: a host whose Python says
# something else must not break what is written together with the answers of other hosts, nor tell
# Ansible of facts or hosts.
TEXT, OBJECT = (str, type(None)), (dict, type(None))
ANSWER = {
    "changed": bool, "failed": bool, "restored": bool, "released": bool,
    "msg": str, "reason": str, "cause": TEXT, "holder": str, "standing_key": TEXT,
    "phases": list, "before": OBJECT, "after": OBJECT, "diff": list,
}  # fmt: skip
PHASE = {"key": str, "status": str, "changed": bool, "log": str, "seconds": (int, float)}
FOUND = {
    "release": OBJECT, "running": bool, "config_sha256": TEXT, "pid": (int, type(None)),
    "cpu_arch": str, "os_version": str, "hostname": str,
}  # fmt: skip
RELEASE = {"version": str, "sha256": str, "path": str}
LONGEST = 10**6  # seconds of a phase
NOT_OURS = "The host's answer is not one our program gives: {}"

FILES = Path(__file__).resolve().parents[1] / "files"
CARRIER = run_path(str(FILES / "packing.py"))["carry"]()  # before Ansible forks for every host
BEGIN = """
from hostler.main import main
main(**json.loads(base64.b64decode("{said}").decode()))
"""


class ActionModule(ActionBase):
    """One round trip, and a second one only for a package file of the controller."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = self._said(variables)
        if arguments["package_file"]:
            arguments["package_file"] = self._send(arguments["package_file"])
        try:
            result.update(self._perform(arguments, self._interpreter(variables)))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _perform(self, arguments: dict[str, Any], interpreter: str) -> dict[str, Any]:
        """What the host's program answers; or, when it does not, what stands there instead."""
        self._used_interpreter = f"#!{interpreter}"  # named where it is not found
        program, file, sent = self._program(arguments), "", None
        if self._connection.is_pipelining_enabled():
            sent = program
        else:  # su and requiretty want a terminal, where nothing can be sent
            file = self._send_program(program)
        command = self._connection._shell.build_module_command(
            self._compute_environment_string(), self._used_interpreter, file
        )
        said = self._low_level_execute_command(command, in_data=sent)
        answer: dict[str, Any] = self._parse_returned_data(said, PROFILE)
        if answer["_ansible_parsed"]:
            answer = _checked(answer)
        remove_internal_keys(answer)
        return answer

    def _program(self, arguments: dict[str, Any]) -> bytes:
        """What Python reads from its standard input on the host."""
        said = {
            "arguments": arguments,
            "check_mode": self._task.check_mode,
            "diff": self._task.diff,
        }
        encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
        # base64: a caller's value can neither end a string nor become code
        text = base64.b64encode(json.dumps(said, cls=encoder).encode()).decode()
        return f"{CARRIER}{BEGIN.format(said=text)}".encode()

    def _send_program(self, program: bytes) -> str:
        """Where the program now lies on the host."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        folder = self._connection._shell.tmpdir
        path = str(self._connection._shell.join_path(folder, "hostler_package.py"))
        self._transfer_data(path, program)
        self._fixup_perms2((folder, path))
        return path

    def _interpreter(self, variables: dict[str, Any]) -> str:
        """The host's Python; where it was to be searched, where every distribution has it."""
        if self._task.delegate_to:
            variables = variables["ansible_delegated_vars"][self._task.delegate_to]
        said = self._first(("ansible_python_interpreter",), variables)
        named = str(said or constants.config.get_config_value("INTERPRETER_PYTHON"))
        return EVERYWHERE if named.startswith("auto") else named

    def _said(self, variables: dict[str, Any]) -> dict[str, Any]:
        """What the task says, and what the variables say where it is silent."""
        for name in self._task.args.keys() - ARGUMENTS.keys():
            raise AnsibleActionFail(f"There is no argument {name!r}; there are: {THERE_ARE}.")
        service = self._task.args.get("name") or self._first(ARGUMENTS["name"].variables, variables)
        names = {name: argument.variables for name, argument in ARGUMENTS.items()}
        names |= {name: (f"{service}_{name}", *names[name]) for name in OF_THE_SERVICE}
        given = {name: value for name, value in self._task.args.items() if value}
        named = {
            n: next(filter(variables.get, names[n]), None) for n in names.keys() - given.keys()
        }
        # all at once: what each call prepares costs more than most values do
        given |= self._templar.template({n: variables[v] for n, v in named.items() if v})
        said = {}
        for name, argument in ARGUMENTS.items():
            value = given.get(name) or self._first(names[name], variables)
            said[name] = _converted(name, argument.kind, value) if value else argument.default
        if self._task.timeout:
            said["deadline"] = min(said["deadline"], self._task.timeout)
        said["deadline"] -= min(PUTTING_BACK, said["deadline"] // 4)
        if said["action"] == "install" and said["config"].get("address") is None:
            said["config"] = said["config"] | self._entered_at(variables)
        return said

    def _entered_at(self, variables: dict[str, Any]) -> dict[str, str]:
        """Where to listen when nothing says so: the address the host is entered at, if it is one.

        The service names it for each of its hosts, and by hand the same is meant.
        """
        named = str(self._first(("ansible_host", "inventory_hostname"), variables) or "")
        try:
            return {"address": str(ip_address(named))}
        except ValueError:
            return {}

    def _first(self, names: Iterable[str], variables: dict[str, Any]) -> Any:
        """The first of these variables that says something."""
        said = (self._templar.template(variables[name]) for name in names if variables.get(name))
        return next(filter(None, said), None)

    def _send(self, name: str) -> str:
        path = os.path.abspath(os.path.expanduser(name))
        if not os.path.isfile(path):
            raise AnsibleActionFail(f"There is no package {path} on this controller.")
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(
            self._connection._shell.tmpdir, os.path.basename(path)
        )
        self._transfer_file(path, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote), execute=False)
        return str(remote)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The host's answer, when it has the shape of one; what else it says is dropped."""
    kept = _known("the answer", ANSWER, answer)
    phases = kept.get("phases")
    if phases is None:
        raise AnsibleActionFail(NOT_OURS.format("it has no phases"))
    kept["phases"] = [_known("a phase", PHASE, phase, whole=True) for phase in phases]
    for phase in kept["phases"]:
        if not 0 <= phase["seconds"] <= LONGEST:
            raise AnsibleActionFail(NOT_OURS.format("a phase's seconds are no length of time"))
    for name in ("before", "after"):
        if kept.get(name) is not None:
            kept[name] = found = _known(name, FOUND, kept[name])
            if found.get("release") is not None:
                found["release"] = _known("the release", RELEASE, found["release"], whole=True)
    return kept


def _known(what: str, shape: dict[str, Any], said: Any, *, whole: bool = False) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise AnsibleActionFail(NOT_OURS.format(f"{what} is no object"))
    missing = shape.keys() - said.keys()
    if whole and missing:
        raise AnsibleActionFail(NOT_OURS.format(f"{what} has no {min(missing)}"))
    for name, kind in shape.items():
        if name in said and not isinstance(said[name], kind):
            raise AnsibleActionFail(NOT_OURS.format(f"{name} of {what} is of the wrong kind"))
    return {name: said[name] for name in shape if name in said}


def _converted(name: str, kind: type, value: Any) -> Any:
    """The value as what it is meant to be: by hand, a number may well be written as text."""
    try:
        if kind is bool:
            return boolean(value)
        if kind in (str, int):
            return kind(value)
    except (TypeError, ValueError) as error:
        raise AnsibleActionFail(f"{name} is {value!r}, which is no {NAMES[kind]}.") from error
    if not isinstance(value, kind):
        raise AnsibleActionFail(f"{name} is {value!r}, which is no {NAMES[kind]}.")
    return value
