"""A work-horse that was forked ahead of time and waits for what it is to do.

A forked process pays for each page of memory it is the first to touch, and opens its connections
anew. While it waits it can do both; when work comes, nobody waits for that any more.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from app.log import log

LOOK = 2.0  # seconds between two looks at whether a horse still has its work
LONGEST_ORDER = 512  # bytes; a pipe passes so little whole


@dataclass(frozen=True)
class WaitingHorse:
    """A child of ours that waits for one order."""

    pid: int
    pipe: int

    def order(self, words: str) -> bool:
        """Have it begin; False when it is no longer there, and nothing was begun."""
        try:
            os.write(self.pipe, words.encode())
        except BrokenPipeError:
            return False
        finally:
            os.close(self.pipe)
        return True


def fork_waiting(warm_up: Callable[[], None], obey: Callable[[str], None]) -> WaitingHorse:
    """Fork a child that warms up, waits for one order and obeys; without one it just ends."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        for end in (reading, writing):
            os.close(end)
        raise
    if pid == 0:
        _live(reading, writing, warm_up, obey)
    os.close(reading)
    return WaitingHorse(pid, writing)


def _live(
    reading: int, writing: int, warm_up: Callable[[], None], obey: Callable[[str], None]
) -> NoReturn:
    """The child's whole life: whatever happens, it never returns into its parent's work."""
    status = 1
    try:
        os.setpgrp()
        os.close(writing)
        warm_up()
        if order := os.read(reading, LONGEST_ORDER).decode():
            os.close(reading)
            obey(order)
        status = 0
    except BaseException as error:
        log.error("A work-horse ended before its work", action="horse_ended", error=repr(error))
    finally:
        os._exit(status)


class Guard:
    """Ends a horse that goes on after its work was taken from it; from `with` to its end.

    A horse stops by itself when it loses its run; `grace` is how long that may take. One that
    hangs cannot, and would hold up its worker, and every run that waits for it, for ever.
    """

    def __init__(self, pid: int, is_lost: Callable[[], bool], name: str, grace: float):
        self._pid, self._is_lost, self._name, self._grace = pid, is_lost, name, grace
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Guard":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            horse = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return
        try:
            lost_since: float | None = None
            while not self._over.wait(min(LOOK, self._grace)):
                if not self._has_lost():
                    lost_since = None
                    continue
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since >= self._grace:
                    log.warning(
                        "A work-horse that hangs is ended", action="horse_ended", **self._who
                    )
                    signal.pidfd_send_signal(horse, signal.SIGKILL)
                    return
        except ProcessLookupError:
            pass  # it ended this moment
        finally:
            os.close(horse)

    def _has_lost(self) -> bool:
        """Unless nobody can say: then it may well be at work."""
        try:
            return self._is_lost()
        except Exception as error:
            log.warning("Cannot tell whether a run is still ours", error=repr(error), **self._who)
            return False

    @property
    def _who(self) -> dict[str, object]:
        return {"job": self._name, "pid": self._pid}
