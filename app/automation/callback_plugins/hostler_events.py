"""Ansible's default output and the results behind it, told to the runner."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

from app.automation.telling import told

DOCUMENTATION = """
name: hostler_events
type: stdout
short_description: Tells Hostler what happens
description:
  - Ansible's default output and the results behind it, on a channel of its own.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

COUNTS = ("changed", "dark", "failures", "ignored", "ok", "processed", "rescued", "skipped")
NOT_TOLD = frozenset({"invocation", "exception", "deprecations", "ansible_facts"})
CENSORED = {"censored": "hidden, because its task says no_log"}


class CallbackModule(Default):
    """What the default callback prints is sent with the event it is printed for."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "hostler_events"

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        with told("runner_on_start", host=host.get_name(), task=task.name or task.action):
            super().v2_runner_on_start(host, task)  # type: ignore[no-untyped-call]

    def v2_runner_on_ok(self, result: Any) -> None:
        with _told("runner_on_ok", result):
            super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        with _told("runner_on_failed", result, ignore_errors=bool(ignore_errors)):
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_skipped(self, result: Any) -> None:
        with _told("runner_on_skipped", result):
            super().v2_runner_on_skipped(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        with _told("runner_on_unreachable", result):
            super().v2_runner_on_unreachable(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with told("playbook_on_stats", **{name: getattr(stats, name) for name in COUNTS}):
            super().v2_playbook_on_stats(stats)  # type: ignore[no-untyped-call]


@contextmanager
def _told(event: str, result: Any, **more: Any) -> Iterator[None]:
    task = result.task
    with told(event, host=result.host.get_name(), task=task.name or task.action, **more) as data:
        said = result.result
        names = (name for name in said if name not in NOT_TOLD and not name.startswith("_ansible_"))
        data["res"] = CENSORED if said.get("_ansible_no_log") else {n: said[n] for n in names}
        yield
