"""Which process is which: a pid alone may be somebody else by now."""

import os
import re
import signal

INTERPRETER = re.compile(r"(python|perl|ruby|node|php|lua|java|(ba|da|k|z)?sh)[0-9.]*$")


def started_at(pid):
    """When this process started, in ticks since boot; None when there is no such living process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
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


def everybody():
    """The ids of all processes there are."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def name_of(pid):
    """What the process is called, for people."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def running_from(folder):
    """The processes whose program, or script, lies below this folder, also when it is gone now."""
    folders = tuple(place + os.sep for place in {folder, os.path.realpath(folder)})
    mine = (os.getpid(), os.getppid())
    return [pid for pid in everybody() if pid not in mine and _runs_from(pid, folders)]


def _runs_from(pid, folders):
    try:
        program = os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = [os.fsdecode(word) for word in file.read(65536).split(b"\0")]
    except OSError:
        return False
    if program.startswith(folders):
        return True
    # a script's interpreter; not the editor or pager that somebody has open on a file of ours
    if not INTERPRETER.match(os.path.basename(program)) or len(words) < 2:
        return False
    below = next((words[1][len(place) :] for place in folders if words[1].startswith(place)), "")
    return below.startswith(("current/", "releases/"))


def family_of(pid):
    """The processes of the same service as this one: of its control group or its session."""
    group = _group_of(pid)
    if group:
        return [other for other in everybody() if _group_of(other) == group]
    session = _session_of(pid)
    return [other for other in everybody() if _session_of(other) == session]


def _group_of(pid):
    """The service's control group; None for a process that is in no service's."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            groups = [line.strip().split(":", 2)[2] for line in file if line.count(":") >= 2]
    except OSError:
        return None
    return next((group for group in groups if group.endswith(".service")), None)


def _session_of(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def listeners(port):
    """The sockets that listen on this port, by inode."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="utf-8", errors="replace") as file:
                rows = [line.split() for line in file]
        except OSError:
            continue
        for row in rows[1:]:
            if len(row) > 9 and row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port:
                found.add(row[9])
    return found


def holder_of(sockets, pids):
    """The first of these processes that has one of these sockets; None when none has."""
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                match = re.match(r"socket:\[(\d+)\]$", os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
            if match and match.group(1) in sockets:
                return pid
    return None
