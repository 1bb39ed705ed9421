"""A horse forked ahead of time warms up, waits for one order, and never outlives its work."""

import os
import signal
from pathlib import Path

from app.horse import fork_waiting


def test_it_warms_up_at_once_and_obeys_one_order(tmp_path: Path) -> None:
    seen, told = os.pipe()
    horse = fork_waiting(
        lambda: _tell(told, "warm"),
        lambda order: (tmp_path / "order").write_text(f"{order} by {os.getpid()}"),
    )

    assert os.read(seen, 4) == b"warm"
    assert not (tmp_path / "order").exists()
    assert horse.order("run-7:a1")
    assert os.waitpid(horse.pid, 0) == (horse.pid, 0)
    assert (tmp_path / "order").read_text() == f"run-7:a1 by {horse.pid}"
    for end in (seen, told):
        os.close(end)


def test_one_that_died_takes_no_order() -> None:
    horse = fork_waiting(_nothing, print)
    os.kill(horse.pid, signal.SIGKILL)
    os.waitpid(horse.pid, 0)

    assert not horse.order("run-7:a1")


def test_one_that_nobody_needs_ends(tmp_path: Path) -> None:
    horse = fork_waiting(_nothing, lambda order: (tmp_path / "order").touch())
    os.close(horse.pipe)

    assert os.waitpid(horse.pid, 0) == (horse.pid, 0)
    assert not (tmp_path / "order").exists()


def test_what_goes_wrong_in_it_stays_in_it() -> None:
    def fail(order: str) -> None:
        raise RuntimeError(order)

    horse = fork_waiting(_nothing, fail)
    cold = fork_waiting(lambda: fail("no database"), _tell_nobody)

    assert horse.order("run-7:a1")
    assert _exit_status(horse.pid) == 1
    assert _exit_status(cold.pid) == 1
    assert not cold.order("run-7:a1")


def _exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _nothing() -> None:
    pass


def _tell_nobody(order: str) -> None:
    raise AssertionError(f"it should not have heard {order}")


def _tell(pipe: int, word: str) -> None:
    os.write(pipe, word.encode())
