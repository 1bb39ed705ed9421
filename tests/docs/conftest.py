"""The folder a reader of the README works in, with an installation and hosts behind it."""

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.cli.conftest import Installation, start_in
from tests.docs.readme import CHECKOUT
from tests.lab.fallback import FallbackLab, can_run_fallback

NOT_LINKED = {
    *("inventory_templates", "run"),  # made for this test
    *(".git", "data"),
}


@pytest.fixture
def stand_ins() -> Iterator[FallbackLab]:
    """Two hosts on loopback: nothing here needs more of them than sshd and a folder."""
    if reason := can_run_fallback():
        pytest.skip(f"the README's commands: {reason}")
    with FallbackLab.up(2, f"docs-{os.getpid()}") as lab:
        yield lab


@pytest.fixture
def started(stand_ins: FallbackLab, tmp_path: Path) -> Iterator[Installation]:
    """What `./run up` starts, without the package that would have to be downloaded."""
    here = start_in(tmp_path / "up", HOSTLER_REMOTE_PYTHON=stand_ins.hosts[0].python)
    try:
        here.wait_for("hostler is ready")
        yield here
        assert here.stop() == 0
    finally:
        here.process.kill()
        here.process.wait()
    shutil.rmtree(Settings(data_dir=here.folder).run_folder, ignore_errors=True)


@pytest.fixture
def desk(started: Installation, tmp_path: Path) -> Path:
    """A checkout to write in: everything leads to the real one, `data` to the installation."""
    desk = tmp_path / "checkout"
    desk.mkdir()
    for path in CHECKOUT.iterdir():
        if path.name not in NOT_LINKED:
            (desk / path.name).symlink_to(path)
    (desk / "data").symlink_to(started.folder)
    # not a link: run sets up the environment of the folder it stands in, which is the real one's
    (desk / "run").write_text(f'#!/bin/sh\nexec {shlex.quote(str(CHECKOUT / "run"))} "$@"\n')
    (desk / "run").chmod(0o755)
    return desk
