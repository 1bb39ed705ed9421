"""Do the role's work on a host in one call; first send a package along when one is given by hand.

What the host runs is files/hostler, sent whole through ssh's stdin. Ansible's own way for modules
would bring six times as much of its library along, and every host would compile that.
"""

import base64
import dataclasses
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.action import ActionBase

# The arguments, and the variables that say them when the task does not: the role's first.
# Arguments written as templates in the task would cost every host 13 ms of the controller's CPU.
VARIABLES = {
    "action": ("package_action",),
    "name": ("package_service",),
    "token": ("package_token", "hostler_token"),
    "packages": ("package_candidates", "hostler_packages"),
    "package_file": ("package_file", "hostler_package_file"),
    "setup_path": ("package_setup_path", "hostler_setup_path"),
    "config": ("package_config", "hostler_config"),
    "fresh": ("package_fresh", "hostler_fresh"),
    "standing_key": ("package_standing_key", "hostler_standing_key"),
    "account": ("package_account", "hostler_account", "ansible_user"),
    "service_manager": ("package_service_manager", "hostler_service_manager"),
}
ARGUMENTS = {
    "action": {"type": "str", "required": True},  # the host knows which there are
    "name": {"type": "str", "default": "agent"},
    "token": {"type": "dict", "no_log": False},
    "packages": {"type": "list", "elements": "dict"},
    "package_file": {"type": "path"},
    "setup_path": {"type": "str", "default": "/opt/hostler"},
    "config": {"type": "dict"},
    "fresh": {"type": "bool", "default": False},
    "standing_key": {"type": "str", "no_log": False},
    "account": {"type": "str"},
    "deadline": {"type": "int"},
    "service_manager": {
        "type": "str",
        "default": "auto",
        "choices": ["auto", "systemd", "process"],
    },
}
OF_THE_SERVICE = ("action", "fresh")  # its own role may say these: agent_action, agent_fresh
PUTTING_BACK = 15  # seconds of the deadline that are for putting back what was there


def _carrier() -> str:
    """The text that brings files/hostler along."""
    files = Path(__file__).resolve().parents[1] / "files"
    modules = sorted((files / "hostler").glob("*.py"))
    sources = {path.stem: path.read_text(encoding="utf-8") for path in modules}
    packed = base64.b64encode(zlib.compress(json.dumps(sources).encode(), 9)).decode()
    return (files / "carrier.py").read_text(encoding="utf-8").replace("@SOURCES@", packed)


CARRIER = _carrier()  # made before Ansible forks a worker for every host
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
        self._arguments = _checked(self._said(task_vars or {}))
        if self._arguments["package_file"]:
            self._arguments["package_file"] = self._send(self._arguments["package_file"])
        try:
            result.update(self._execute_module(module_args={}, task_vars=task_vars))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _configure_module(self, *args: Any, **kwargs: Any) -> Any:
        """What Ansible makes of the module's file, with our program in place of its text."""
        built, path = super()._configure_module(*args, **kwargs)
        said = {
            "arguments": self._arguments,
            "check_mode": self._task.check_mode,
            "diff": self._task.diff,
        }
        encoder = get_module_encoder(built.serialization_profile, Direction.CONTROLLER_TO_MODULE)
        # base64: a caller's value can neither end a string nor become code
        text = base64.b64encode(json.dumps(said, cls=encoder).encode()).decode()
        begin = BEGIN.format(said=text)
        program = f"{built.shebang}\n{CARRIER}{begin}".encode()
        return dataclasses.replace(built, b_module_data=program), path

    def _said(self, variables: dict[str, Any]) -> dict[str, Any]:
        """What the task says, and what the variables say where it is silent."""
        said = {"config": {}, **self._task.args}
        service = said.get("name") or self._value(VARIABLES["name"], variables)
        for option, names in VARIABLES.items():
            if option in OF_THE_SERVICE:
                names = (f"{service}_{option}", *names)
            value = said.get(option) or self._value(names, variables)
            if value:
                said[option] = value
        seconds = int(self._task.timeout)
        if seconds and "deadline" not in said:
            said["deadline"] = seconds - min(PUTTING_BACK, seconds // 4)
        return said

    def _value(self, names: Iterable[str], variables: dict[str, Any]) -> Any:
        """The first of these variables that says something."""
        values = (self._templar.template(variables[name]) for name in names if name in variables)
        return next(filter(None, values), None)

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


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    """The arguments with their types and defaults, as the module's documentation tells them."""
    found = ArgumentSpecValidator(ARGUMENTS).validate(said)
    if found.error_messages:
        raise AnsibleActionFail("; ".join(found.error_messages))
    return dict(found.validated_parameters)
