"""Do the role's work on a host in one call; first send a package along when one is given by hand.

What the host runs is files/hostler, sent whole through ssh's stdin. Ansible's own way for modules
would bring several times as much of its library along, which every host would compile, and build it
anew in the worker of each.
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from runpy import run_path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any, NamedTuple

from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
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

# once, before Ansible forks for every host
FILES = Path(__file__).resolve().parents[1] / "files"
CARRIER = run_path(str(FILES / "packing.py"))["carry"]()
answers = SimpleNamespace(**run_path(str(FILES / "answers.py")))
BEGIN = """
from hostler.main import main
main(**json.loads(base64.b64decode("{said}").decode()))
"""
SAID_TOO_MUCH = (
    "The host printed more than {most} MiB, was not heard to the end, and its work was broken off."
    " Look at what its shell, its profile or its Python prints, then retry."
)


class ActionModule(ActionBase):
    """One round trip, and a second one only for a package file of the controller."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = self._said(variables)
        with _fit_to_be_shown():
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
        mark = f"<hostler {token_hex(16)}>"
        program, file, sent = self._program(arguments, mark), "", None
        if self._connection.is_pipelining_enabled():
            sent = program
        else:  # su and requiretty want a terminal, where nothing can be sent
            file = self._send_program(program)
        command = self._connection._shell.build_module_command(
            self._compute_environment_string(), self._used_interpreter, file
        )
        said = self._low_level_execute_command(command, in_data=sent)
        if said["rc"] == answers.TOO_MUCH:
            reason = SAID_TOO_MUCH.format(most=answers.MOST_SAID // 2**20)
            return {"failed": True, "cause": "too_much_output", "reason": reason, "msg": reason}
        text = answers.between(said["stdout"], mark)
        if text is None:
            return self._without_answer(said)
        try:
            answer: dict[str, Any] = answers.read_answer(text)
        except answers.NotAnAnswer as why:
            raise AnsibleActionFail(str(why)) from None
        return answer

    def _without_answer(self, said: dict[str, Any]) -> dict[str, Any]:
        """What Ansible says of a module that does not answer, whatever else the host printed."""
        stdout, stderr = answers.kept(said["stdout"]), answers.kept(said["stderr"])
        words = f"{stderr}\n{stdout}"  # with a terminal between, complaints arrive as output
        result: dict[str, Any] = self._parse_returned_data(
            {"stdout": "", "stderr": words, "rc": said["rc"]}, PROFILE
        )
        remove_internal_keys(result)
        return result | {"module_stdout": stdout, "module_stderr": stderr}

    def _program(self, arguments: dict[str, Any], mark: str) -> bytes:
        """What Python reads from its standard input on the host."""
        said = {
            "mark": mark,
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


@contextmanager
def _fit_to_be_shown() -> Iterator[None]:
    """Cut and clean what a host said in an error, which Ansible prints as it is."""
    try:
        yield
    except AnsibleError as error:
        words = answers.kept(str(error))
        if words == str(error):
            raise
        kind = AnsibleConnectionFailure if isinstance(error, AnsibleConnectionFailure) else None
        raise (kind or AnsibleActionFail)(words) from None


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
