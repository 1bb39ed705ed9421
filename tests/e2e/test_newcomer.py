"""The demo ends well for an account that is not root, on a Debian that has only Python and ssh."""

from pathlib import Path

import pytest

from tests.e2e.newcomer import copy_checkout, run_there
from tests.e2e.test_demo import check
from tests.lab.hosts import can_run_lab

PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}  # what each suite's own Python is


@pytest.mark.timeout(900)
@pytest.mark.parametrize("suite", PYTHONS)
def test_the_demo_on_a_newcomers_machine(suite: str, tmp_path: Path) -> None:
    if reason := can_run_lab():
        pytest.skip(f"a newcomer's machine: {reason}")
    checkout = tmp_path / "hostler"
    copy_checkout(checkout)
    done = run_there(suite, checkout, "./run demo --hosts 3", timeout=800)
    assert done.returncode == 0, done.stdout
    assert f"making .venv with Python {PYTHONS[suite]}." in done.stdout
    assert "the hosts are plain sshd processes" in done.stdout
    check(done.stdout)
