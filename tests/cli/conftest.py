"""A running installation, and the command line as a person types it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

SECONDS = 120  # for what takes a few, on a machine that is busy with other tests

AGENT = """\
name: sleeper
kind: agent
version: "1.0"
os: LINUX
cpu: x86_64
description: sleeps
exec: [bin/sleeper]
defaults: {port: 9100}
ready: {kind: none}
stays_up: 1
reload: restart
"""


@dataclass
class Installation:
    """A `hostler up` in a folder of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str] = field(repr=False)

    @property
    def log(self) -> str:
        return (self.folder.parent / f"{self.folder.name}.log").read_text()

    def hostler(
        self, *arguments: str, ok: bool = True, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here; unless it may fail, it must not."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment, input=input, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stdout + done.stderr + self.log
        return done

    def processes(self) -> list[psutil.Process]:
        """Everything it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def process_named(self, part: str) -> psutil.Process:
        """Its own program with that in its command line, as soon as it runs."""
        deadline = time.monotonic() + SECONDS
        while not (found := self._children_with(part)):
            assert time.monotonic() < deadline, f"no {part} runs:\n{self.log}"
            self.process_ended_within(0.05)
        return found[0]

    def _children_with(self, part: str) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it may be ending at this moment
                if part in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def process_ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            return True
        return False

    def wait_for(self, text: str, seconds: float = SECONDS) -> None:
        """Until it has said that."""
        deadline = time.monotonic() + seconds
        while text not in self.log:
            if self.process_ended_within(0.05):
                break
            assert time.monotonic() < deadline, f"never said {text!r}:\n{self.log}"
        assert text in self.log, self.log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


Start = Callable[..., Installation]


def start_in(folder: Path, *arguments: str, **environment: str) -> Installation:
    """Start it on free ports, without the package that would have to be downloaded."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "HOSTLER_DATA_DIR": str(folder),
        "HOSTLER_WORKERS": "1",
        "HOSTLER_DEFAULT_AGENT_PACKAGE": "no",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOSTLER_")}
    environment = {**kept, **settings, **environment}
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--package-port", "0"]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments], env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return Installation(folder, process, environment)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start installations, which are ended with the test."""
    started = []

    def start(*arguments: str, folder: str = "data", **environment: str) -> Installation:
        started.append(start_in(tmp_path / folder, *arguments, **environment))
        return started[-1]

    yield start
    for installation in started:
        installation.process.kill()
        installation.process.wait()


@pytest.fixture
def mute() -> Iterator[str]:
    """An address where somebody accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests that only talk to it."""
    installation = start_in(tmp_path_factory.mktemp("here") / "data")
    installation.wait_for("hostler is ready")
    yield installation
    assert installation.stop() == 0


@pytest.fixture(scope="session")
def agent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a package is built from."""
    folder = tmp_path_factory.mktemp("sleeper")
    (folder / "hostler-package.yaml").write_text(AGENT)
    (folder / "bin").mkdir()
    program = folder / "bin" / "sleeper"
    program.write_text("#!/bin/sh\nexec sleep 1000000\n")
    program.chmod(0o755)
    return folder
