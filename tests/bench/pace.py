"""How fast the machine is at this moment: CPU time of work that never changes.

A shared machine's speed drifts, and CPU time drifts with it. Two figures compare as their paces do:
`loop` is Python at work, `pages` is a fork whose child writes to memory it shares, which is what a
work-horse and Ansible's workers spend much of theirs on.
"""

import os
import resource
import time

ROUNDS = 1_000_000
PAGES = 5_000
PAGE = 4096  # bytes


def measure_pace() -> dict[str, float]:
    """Milliseconds of CPU for the loop, and for the pages."""
    began = time.process_time()
    total = 0
    for number in range(ROUNDS):
        total += number
    loop = time.process_time() - began
    return {"loop": round(1000 * loop, 1), "pages": round(1000 * _touch_pages(), 1)}


def _touch_pages() -> float:
    memory = bytearray(PAGES * PAGE)
    _write(memory)
    before = _children()
    pid = os.fork()
    if pid == 0:
        _write(memory)
        os._exit(0)
    os.waitpid(pid, 0)
    return _children() - before


def _write(memory: bytearray) -> None:
    for place in range(0, len(memory), PAGE):
        memory[place] = 1


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
