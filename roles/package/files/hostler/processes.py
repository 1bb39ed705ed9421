"""Which process is which: a pid alone may be somebody else by now."""

import os
import signal


def started_at(pid):
    """When this process started, in ticks since boot; None when there is no such living process."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid, start):
    """Whether that very process still runs."""
    return bool(pid) and start is not None and started_at(pid) == start


def age(pid):
    """For how many seconds this process has been running."""
    start = started_at(pid)
    if start is None:
        return 0.0
    with open("/proc/uptime") as uptime:
        return float(uptime.read().split()[0]) - start / os.sysconf("SC_CLK_TCK")


def end(pid, start, watch, seconds, group=False):
    """SIGTERM, wait, SIGKILL; true when that very process is gone."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 2.0)):
        if not is_alive(pid, start):
            return True
        try:
            (os.killpg if group else os.kill)(pid, number)
        except ProcessLookupError:
            return True
        while patience > 0 and is_alive(pid, start):
            watch.wait(0.05)
            patience -= 0.05
    return not is_alive(pid, start)
