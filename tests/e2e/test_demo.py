"""The demo keeps its promise: on real hosts, and on their stand-ins."""

import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.lab.fallback import can_run_fallback
from tests.lab.hosts import can_run_lab

RUN = Path(__file__).parents[2] / "run"


def run_demo(home: Path, *arguments: str, **environment: str) -> str:
    """Run it in an empty home folder; what it printed."""
    done = subprocess.run(
        [RUN, "demo", "--hosts", "3", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def check(shown: str) -> None:
    """One host failed with cause and advice, and ended well after a retry of it alone."""
    first, second = re.findall(r"Job 1  Install Agent  .*?\n\n", shown, re.DOTALL)
    assert "PART_FAILED  2 success, 1 failed" in first
    assert re.search(r"FAILED +Check the host +auth +The host did not accept the login", first)
    assert "SUCCESS  3 success" in second
    assert "not retried (2): same process as before the retry, and no new login" in shown


def check_nothing_is_left(shown: str) -> None:
    found = re.search(r"Hostler \S+ in (\S+)", shown)
    assert found
    assert not Path(found[1]).exists()
    assert [p.info["pid"] for p in psutil.process_iter(["pid"]) if uses(p, found[1])] == []


def uses(process: psutil.Process, folder: str) -> bool:
    try:
        return process.environ().get("HOSTLER_DATA_DIR") == folder
    except psutil.Error:
        return False


def test_the_demo_on_real_hosts(tmp_path: Path) -> None:
    if reason := can_run_lab():
        pytest.skip(f"lab: {reason}")
    shown = run_demo(tmp_path)
    check(shown)
    check_nothing_is_left(shown)


def test_the_demo_on_stand_ins_where_namespaces_are_not_permitted(tmp_path: Path) -> None:
    if reason := can_run_fallback():
        pytest.skip(f"stand-in hosts: {reason}")
    shown = run_demo(tmp_path, HOSTLER_LAB="fallback")
    assert "the hosts are plain sshd processes" in shown
    check(shown)
    check_nothing_is_left(shown)
