"""A work-horse that was forked ahead of time and waits for what it is to do.

A forked process pays for each page of memory it is the first to touch, and opens its connections
anew. While it waits it can do both; when work comes, nobody waits for that any more.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from app.log import log

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
