"""A host to act on, and agents to put on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packages.agents import a_package
from tests.playbooks.host import Host

Package = Callable[..., Path]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "root").mkdir()
    host = Host(tmp_path / "root")
    yield host
    host.clear()


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """Make a package of a small agent: package("2.0", EXITS, ready=…)."""

    def make(*arguments: Any, **over: Any) -> Path:
        return a_package(tmp_path / "packages", *arguments, **over)

    return make
