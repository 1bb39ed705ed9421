"""Whoever makes a place of ours first does not get what we put there."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.access.vault import Vault
from app.domain.errors import HostlerError
from app.private import NotPrivate, private_folder

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make others' folders")
STRANGER = 65534


@NEEDS_ROOT
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "h1"
    theirs.mkdir()
    os.chown(theirs, STRANGER, STRANGER)

    with pytest.raises(NotPrivate, match=r"belongs to another user \(uid 65534\)"):
        private_folder(theirs, "HOSTLER_RUN_DIR")


def test_a_link_to_a_folder_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "h1").symlink_to(tmp_path / "ours")

    with pytest.raises(NotPrivate, match="is a link or no folder"):
        private_folder(tmp_path / "h1", "HOSTLER_RUN_DIR")


def test_a_folder_of_ours_is_closed_to_others(tmp_path: Path) -> None:
    ours = tmp_path / "h1"
    ours.mkdir(mode=0o755)
    ours.chmod(0o777)

    private_folder(ours, "HOSTLER_RUN_DIR")

    assert stat.S_IMODE(ours.stat().st_mode) == 0o700


@NEEDS_ROOT
def test_the_start_is_refused_where_the_runs_folder_is_somebody_elses(tmp_path: Path) -> None:
    from app.settings import Settings

    runs = tmp_path / "shm"
    runs.mkdir(mode=0o777)
    settings = Settings(data_dir=tmp_path / "data", run_dir=runs)
    settings.run_folder.mkdir()
    os.chown(settings.run_folder, STRANGER, STRANGER)
    named = {"HOSTLER_DATA_DIR": str(settings.data_dir), "HOSTLER_RUN_DIR": str(runs)}
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--package-port", "0"]

    done = subprocess.run(
        command, env=os.environ | named, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 1
    assert "belongs to another user (uid 65534)" in done.stderr
    assert not (settings.data_dir / "hostler.sqlite3").exists()


@NEEDS_ROOT
def test_a_key_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    Vault(tmp_path / "keys")
    os.chown(tmp_path / "keys", STRANGER, STRANGER)

    with pytest.raises(HostlerError, match="belongs to another user"):
        Vault(tmp_path / "keys")
