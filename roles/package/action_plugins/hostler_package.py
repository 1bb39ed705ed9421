"""Run the module of the same name; first send a package along when one is given by hand."""

import os
from collections.abc import Iterable
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# The module's options, and the variables that say them when the task does not: the role's first.
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
OF_THE_SERVICE = ("action", "fresh")  # its own role may say these: agent_action, agent_fresh
PUTTING_BACK = 15  # seconds of the deadline that are for putting back what was there


class ActionModule(ActionBase):
    """One round trip, and a second one only for a package file of the controller."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        result = super().run(tmp, task_vars)
        arguments = self._arguments(task_vars or {})
        if arguments.get("package_file"):
            arguments["package_file"] = self._send(arguments["package_file"])
        try:
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _arguments(self, variables: dict[str, Any]) -> dict[str, Any]:
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
