"""Hear a host to a bound and no further: who prints without end is cut off, and told so."""

import os
import subprocess
import threading
from collections.abc import Callable
from types import ModuleType
from typing import IO, Any

from app.automation.said import MOST_SAID, TOO_MUCH

CHUNK = 2**16

_here = threading.local()  # `is_too_much`: whether the command this thread runs went too far


def bound(connection: Any, module: ModuleType) -> None:
    """Have this kind of ssh connection read no more of one command than anybody would keep."""
    run = connection._bare_run

    def run_bounded(*arguments: Any, **more: Any) -> tuple[int, bytes, bytes]:
        _here.is_too_much = False
        code, said, complaints = run(*arguments, **more)
        # nobody reads what was said when it was too much, and others may be saying as much
        return (TOO_MUCH, b"", b"") if _here.is_too_much else (code, said, complaints)

    connection._bare_run = run_bounded
    module.subprocess = _Bounding()  # type: ignore[attr-defined]


class _Bounding:
    """The module `subprocess` as ssh's plugin sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, *arguments: Any, **more: Any) -> "subprocess.Popen[bytes]":  # noqa: N802
        command = subprocess.Popen(*arguments, **more)
        for name in ("stdout", "stderr"):
            if pipe := getattr(command, name):
                setattr(command, name, BoundedPipe(pipe, command.kill))
        return command


class BoundedPipe:
    """What a command prints, up to a bound; then the command is ended."""

    def __init__(self, pipe: IO[bytes], end: Callable[[], None]) -> None:
        self._pipe = pipe
        self._end = end
        self._left = MOST_SAID
        self.fileno, self.close = pipe.fileno, pipe.close

    def read(self) -> bytes | None:
        """What is there now; nothing more beyond the bound, None where nothing is there yet."""
        try:
            chunk = os.read(self._pipe.fileno(), min(CHUNK, self._left + 1))
        except BlockingIOError:
            return None
        if len(chunk) <= self._left:
            self._left -= len(chunk)
            return chunk
        _here.is_too_much = True
        self._end()
        return b""
