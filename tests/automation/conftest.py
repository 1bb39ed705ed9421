"""A throwaway sshd for the runs, and a place on tmpfs for their folders."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.automation.processes import kill_strays
from tests.automation import loopback as peers
from tests.automation.loopback import Loopback


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if reason := peers.why_not():
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="hostler-sshd-") as folder,
        peers.loopback(Path(folder)) as host,
    ):
        yield host


@pytest.fixture
def root() -> Iterator[Path]:
    """Where the private folders of runs go; nothing and nobody may be left there."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="hostler-test-", dir=base))
    yield folder
    left = sorted(path.name for path in folder.iterdir())
    clean = kill_strays(None, 2, folder)
    shutil.rmtree(folder)
    assert (left, clean) == ([], True)
