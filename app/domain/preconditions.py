"""Why a host may not take part in a job: functions that return a reason, or None."""

from collections.abc import Callable
from dataclasses import dataclass

SUPPORTED_OS = frozenset({"LINUX"})


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What is known of one host when a job is submitted."""

    label: str
    os_type: str
    agent_version: str | None
    has_login: bool
    login_problem: str = ""


Precondition = Callable[[HostFacts], str | None]


def os_has_a_role(host: HostFacts) -> str | None:
    """Only systems there is a role for."""
    if host.os_type in SUPPORTED_OS:
        return None
    return (
        f"os_type {host.os_type} has no role yet; "
        f"there is one for: {', '.join(sorted(SUPPORTED_OS))}"
    )


def has_login(host: HostFacts) -> str | None:
    """Only hosts somebody can get onto."""
    if host.has_login:
        return None
    return host.login_problem or "there is no usable login for it; send account and password or key"


def agent_installed(host: HostFacts) -> str | None:
    """Only hosts that have an agent already."""
    return None if host.agent_version else "no agent is installed on it; install one first"


def first_refusal(checks: tuple[Precondition, ...], host: HostFacts) -> str | None:
    """The first reason against this host, or None."""
    return next((reason for check in checks if (reason := check(host))), None)
