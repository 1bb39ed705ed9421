"""Pytest fixtures that hand out lab hosts: shared between tests, reset and not rebooted."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.lab.hosts import Lab, LabHost, can_run_lab

LabHosts = Callable[[int], list[LabHost]]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The session's lab; its hosts are booted when a test first asks for that many.

    HOSTLER_LAB_NAME names a lab that is up already (`./run lab up N --name …`), to save booting.
    """
    if reason := can_run_lab():
        if os.environ.get("CI") == "true":
            pytest.fail(f"In CI the lab has to run. {reason}")
        pytest.skip(f"lab: {reason}")
    if name := os.environ.get("HOSTLER_LAB_NAME"):
        yield Lab.attach(name)
        return
    with Lab.up(0, name=f"test-{os.getpid()}") as lab:
        yield lab


@pytest.fixture
def lab_hosts(lab: Lab) -> LabHosts:
    """`lab_hosts(n)` gives n hosts as good as new; a second call in a test gives others."""
    most = int(os.environ.get("HOSTLER_LAB_SIZE", "32"))
    given: list[LabHost] = []

    def give(count: int) -> list[LabHost]:
        wanted = len(given) + count
        if wanted > max(most, len(lab.hosts)):
            raise ValueError(f"The lab has {most} hosts (HOSTLER_LAB_SIZE), not {wanted}.")
        used = lab.hosts[len(given) : wanted]
        lab.grow(wanted)
        lab.reset(used)
        fresh = lab.hosts[len(given) : wanted]
        given.extend(fresh)
        return fresh

    return give
