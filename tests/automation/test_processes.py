"""Processes of a run are found and ended, nobody else's are."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.automation.processes import (
    find_processes,
    kill_strays,
    processes_in,
    start_time,
    stray_pids,
    wait_for_one,
)
from app.automation.runner import clean_folders

Starter = Callable[..., subprocess.Popen[str]]

SECONDS = 50  # for what takes one; those who are to be ended would end by themselves a little later

STUBBORN = (
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready', flush=True); time.sleep(60)"
)
MEEK = "import time; print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def start() -> Iterator[Starter]:
    """Start a process that looks like one of a run."""
    started: list[subprocess.Popen[str]] = []

    def start(run_id: object, folder: Path, code: str = MEEK) -> subprocess.Popen[str]:
        environment = {"HOSTLER_RUN": str(run_id), "HOSTLER_FOLDER": str(folder)}
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_a_run_is_known_by_its_id_and_its_installation(tmp_path: Path, start: Starter) -> None:
    mine = start(7, tmp_path / "r7-1-x")
    other_run = start(8, tmp_path / "r8-1-x")
    other_installation = start(7, tmp_path.parent / "elsewhere" / "r7-1-x")

    assert stray_pids(7, tmp_path) == [mine.pid]
    assert set(stray_pids(root=tmp_path)) == {mine.pid, other_run.pid}
    assert {mine.pid, other_installation.pid} <= set(stray_pids(7))
    assert [p.pid for p in processes_in(tmp_path / "r8-1-x")] == [other_run.pid]


def test_only_the_run_is_killed(tmp_path: Path, start: Starter) -> None:
    mine, other = start(7, tmp_path / "r7-1-x"), start(8, tmp_path / "r8-1-x")

    killed = kill_strays(7, 2, tmp_path)

    assert killed
    assert mine.wait(SECONDS) == -signal.SIGTERM
    assert other.poll() is None


def test_who_does_not_listen_is_killed(tmp_path: Path, start: Starter) -> None:
    stubborn = start(7, tmp_path / "r7-1-x", STUBBORN)

    killed = kill_strays(7, 0.3, tmp_path)

    assert killed
    assert stubborn.wait(SECONDS) == -signal.SIGKILL


def test_nobody_to_kill_is_success(tmp_path: Path) -> None:
    assert kill_strays(7, 0, tmp_path)


def test_a_run_without_a_number_is_not_ours(tmp_path: Path, start: Starter) -> None:
    start("x", tmp_path / "r7-1-x")

    assert find_processes(root=tmp_path) == []


def test_waiting_ends_when_one_ends(tmp_path: Path, start: Starter) -> None:
    short = start(7, tmp_path, "import time; print('ready', flush=True); time.sleep(0.2)")
    long = start(7, tmp_path)

    wait_for_one([short.pid, long.pid], 600)  # this test is given half of that

    assert short.poll() == 0
    assert long.poll() is None


def test_a_process_has_a_beginning() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**22 + 1) is None


# --- Folders --------------------------------------------------------------------------------


def folder_of(root: Path, name: str, owner: str) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "owner").write_text(owner)
    (folder / "hosts.json").write_text("secret")
    return folder


def test_folders_of_the_dead_go(tmp_path: Path) -> None:
    dead = folder_of(tmp_path, "r7-1-abc", f"{os.getpid()} 1")  # the pid was used again
    living = folder_of(tmp_path, "r8-1-abc", f"{os.getpid()} {start_time(os.getpid())}")
    needed = folder_of(tmp_path, "r9-1-abc", "4194305 1")
    strange = folder_of(tmp_path, "somebody-else", "4194305 1")

    clean_folders(tmp_path, {9})

    assert not dead.exists()
    assert living.exists()
    assert needed.exists()
    assert strange.exists()


def test_a_folder_made_this_moment_stays(tmp_path: Path) -> None:
    young, old = tmp_path / "r7-1-abc", tmp_path / "r8-1-abc"
    young.mkdir()
    old.mkdir()
    os.utime(old, (1, 1))

    clean_folders(tmp_path, set())

    assert young.exists()
    assert not old.exists()


def test_who_still_works_in_a_dead_folder_goes_with_it(tmp_path: Path, start: Starter) -> None:
    folder = folder_of(tmp_path, "r7-1-abc", "4194305 1")
    worker = start(7, folder)

    clean_folders(tmp_path, set())

    assert worker.wait(SECONDS) == -signal.SIGTERM
    assert not folder.exists()


def test_no_root_is_nothing_to_clean(tmp_path: Path) -> None:
    clean_folders(tmp_path / "never", set())

    assert not (tmp_path / "never").exists()
