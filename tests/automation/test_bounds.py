"""A command is heard up to a bound, and ended beyond it."""

import subprocess
from types import SimpleNamespace
from typing import Any

from app.automation.bounds import CHUNK, BoundedPipe, bound
from app.automation.said import MOST_SAID, TOO_MUCH


def said_by(command: str) -> tuple[int, subprocess.Popen[bytes]]:
    """How much is heard of it."""
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE) as process:
        assert process.stdout
        pipe, heard = BoundedPipe(process.stdout, process.kill), 0
        while chunk := pipe.read():
            assert len(chunk) <= CHUNK
            heard += len(chunk)
    return heard, process


def test_what_stays_within_the_bound_is_heard_whole() -> None:
    heard, process = said_by(f"head -c {MOST_SAID} /dev/zero; exit 3")

    assert (heard, process.returncode) == (MOST_SAID, 3)


def test_what_goes_on_is_ended() -> None:
    heard, process = said_by("while :; do echo on and on; done")

    assert heard <= MOST_SAID
    assert process.returncode == -9


class Connection:
    """As ssh's plugin reads a command."""

    module = SimpleNamespace(subprocess=subprocess)

    def _bare_run(self, command: str) -> tuple[int, bytes, bytes]:
        process = self.module.subprocess.Popen(
            ["sh", "-c", command], stdout=self.module.subprocess.PIPE
        )
        said = b""
        while chunk := process.stdout.read():
            said += chunk
        process.stdout.close()
        return process.wait(), said, b""


def test_a_connection_says_which_command_went_too_far_and_drops_what_it_said() -> None:
    module: Any = Connection.module
    bound(Connection, module)
    connection = Connection()

    assert connection._bare_run("echo fine") == (0, b"fine\n", b"")
    assert connection._bare_run("yes") == (TOO_MUCH, b"", b"")
    assert connection._bare_run("echo fine; exit 4") == (4, b"fine\n", b"")
