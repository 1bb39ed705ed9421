"""Leaves the worker it runs in while others of its crew are at work."""

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        if task_vars["inventory_hostname"] == task_vars["leaver"]:
            raise SystemExit
        return self._low_level_execute_command("sleep 600")
