"""Real lab hosts where this machine permits them, plain sshd processes where it does not."""

from tests.lab import fallback, hosts
from tests.lab.fallback import FallbackHost, FallbackLab, fallback_names
from tests.lab.hosts import Lab, LabHost, can_run_lab, lab_names

AnyHost = LabHost | FallbackHost
AnyLab = Lab | FallbackLab


def up(count: int, name: str, *, detached: bool = False) -> AnyLab:
    """Bring a lab up; `isinstance(lab, FallbackLab)` tells which kind it became."""
    kind = FallbackLab if can_run_lab() else Lab
    return kind.up(count, name, detached=detached)


def attach(name: str) -> AnyLab:
    """The lab of this name that is already up, of whichever kind."""
    return (FallbackLab if name in fallback_names() else Lab).attach(name)


def names() -> list[str]:
    """Every lab on this machine that this user can see."""
    return sorted({*lab_names(), *fallback_names()})


def is_held(name: str) -> bool:
    """Whether a lab belongs to a process that still runs, such as a test session."""
    return fallback.is_held(name) if name in fallback_names() else hosts.is_held(name)
