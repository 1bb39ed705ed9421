"""The supervisor starts, restarts and stops real processes, and none outlives it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

SLEEP = ["sleep", "1000"]
STUBBORN = [sys.executable, "-c", "import os, signal; signal.signal(15, 1)"
            "; os.write(1, b'deaf\\n'); signal.pause()"]  # fmt: skip
SECONDS = 60  # for what takes one, on a machine that is busy with other tests

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def supervise() -> Iterator[Start]:
    started = []

    def start(*programs: dict[str, Any]) -> subprocess.Popen[str]:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.supervised", json.dumps(programs)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.terminate()  # a kill would leave what its programs started, with our pipe
        supervisor.communicate()


def read_until(supervisor: subprocess.Popen[str], word: str) -> str:
    """The next line with this word."""
    return read_until_all(supervisor, word)[0]


def read_until_all(supervisor: subprocess.Popen[str], *words: str) -> list[str]:
    """A line with each of these words, whichever of them is said first."""
    assert supervisor.stdout
    found: dict[str, str] = {}
    while len(found) < len(words):
        line = supervisor.stdout.readline()
        assert line, f"it said only {found}"
        found |= {word: line for word in words if word in line}
    return [found[word] for word in words]


def pids_in(line: str) -> list[psutil.Process]:
    return [psutil.Process(int(pid)) for pid in line.split()[1:]]


def test_a_killed_program_is_started_again_and_it_says_so(supervise: Start) -> None:
    supervisor = supervise({"name": "sleeper", "command": SLEEP})
    [sleeper] = pids_in(read_until(supervisor, "pids"))
    sleeper.kill()
    assert "sleeper was killed by SIGKILL; starting it again in 0.5 s" in read_until(
        supervisor, "again"
    )
    sleeper.wait(SECONDS)
    [again] = wait_for(lambda: psutil.Process(supervisor.pid).children())
    assert again.pid != sleeper.pid


def test_a_stop_signal_ends_everything_even_what_does_not_listen(supervise: Start) -> None:
    supervisor = supervise(
        {"name": "sleeper", "command": SLEEP},
        {"name": "stubborn", "command": STUBBORN, "patience": 0.5},
    )
    pids, _ = read_until_all(supervisor, "pids", "deaf")
    processes = pids_in(pids)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(SECONDS) == 0
    assert not any(process.is_running() for process in processes)


def test_programs_of_a_lower_rank_are_stopped_first(supervise: Start) -> None:
    tell = "trap 'echo {0} ends; exit' TERM; echo {0} up; while :; do read -t 1 <> <(:); done"
    supervisor = supervise(
        {"name": "last", "command": ["bash", "-c", tell.format("last")], "rank": 2},
        {"name": "first", "command": ["bash", "-c", tell.format("first")], "rank": 1},
    )
    read_until(supervisor, " up"), read_until(supervisor, " up")
    supervisor.send_signal(signal.SIGINT)
    assert [read_until(supervisor, "ends").split()[0] for _ in range(2)] == ["first", "last"]


def test_nothing_survives_a_killed_supervisor(supervise: Start) -> None:
    supervisor = supervise({"name": "a", "command": SLEEP}, {"name": "b", "command": SLEEP})
    processes = pids_in(read_until(supervisor, "pids"))
    supervisor.kill()
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    assert alive == []


def test_what_a_dead_program_left_behind_is_ended(supervise: Start) -> None:
    parent = ["bash", "-c", "sleep 1000 & echo left $!; wait"]
    supervisor = supervise({"name": "parent", "command": parent})
    said = re.search(r"left (\d+)", read_until(supervisor, "left"))
    assert said
    leftover = psutil.Process(int(said[1]))
    os.kill(leftover.ppid(), signal.SIGKILL)
    leftover.wait(SECONDS)


def test_an_errand_runs_once(supervise: Start) -> None:
    supervisor = supervise(
        {"name": "errand", "command": ["bash", "-c", "exit 3"], "is_errand": True}
    )
    assert read_until(supervisor, "errand") == "errand exited with 3\n"
    assert psutil.Process(supervisor.pid).children() == []


def wait_for(look: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    """What a look shows as soon as it shows something."""
    for _ in range(int(SECONDS / 0.05)):
        if found := look():
            return found
        signal.sigtimedwait([], 0.05)
    raise AssertionError(f"still nothing after {SECONDS} s")
