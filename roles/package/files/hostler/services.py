"""Who keeps a program running: systemd where there is one, a pidfile where there is none."""

import glob
import json
import os
import re
import signal
import subprocess
from collections import namedtuple

from . import accounts, environment, files, processes, render
from .failure import Failure

# `how` says in words what became of a program that does not run
State = namedtuple("State", "pid start how")
NOT_THERE = State(None, None, "it was not started")
LAST_WORDS = 6
JOURNALS = ("/run/log/journal/*/*.journal", "/var/log/journal/*/*.journal")
START_SECONDS = 20  # so long a start of ours may be put off


def choose(kind, place, watch):
    """The service manager of this host."""
    if kind == "auto":
        has_systemd = not place.root and os.path.isdir("/run/systemd/system")
        kind = "systemd" if has_systemd else "process"
    return {"systemd": Systemd, "process": Process}[kind](place, watch)


def last_lines(text):
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-LAST_WORDS:])


class Systemd:
    """A unit named hostler-<name>.service."""

    UNIT = """\
# Written by Hostler; the next run writes it again.
[Unit]
Description=Hostler {name}
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={current}
{user}{environment}Restart=always
RestartSec=3
TimeoutStopSec={stop_timeout}
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

    def __init__(self, place, watch):
        self.place = place
        self.watch = watch
        self.unit = f"hostler-{place.name}.service"
        self.path = place.at("/etc/systemd/system/" + self.unit)
        self.wanted = place.at("/etc/systemd/system/multi-user.target.wants/" + self.unit)

    def refuse_without_rights(self):
        if os.geteuid() != 0:
            raise Failure(
                "privilege",
                f"Services of this host need root, and the login has uid {os.geteuid()}. "
                "Use root, or an account that may sudo.",
            )

    def definition(self, launch):
        environment = launch["environment"]
        return self.UNIT.format(
            name=self.place.name,
            command=" ".join(render.systemd_argument(item) for item in launch["argv"]),
            current=render.systemd_path(launch["folder"]),
            environment=f"EnvironmentFile=-{render.systemd_path(environment)}\n"
            if environment
            else "",
            stop_timeout=launch["stop_timeout"],
            user="User={}\n".format(launch["user"]) if launch["user"] else "",
        )

    def define(self):
        """Let systemd know the unit as its file is now."""
        if os.path.exists(self.path) and not os.path.islink(self.wanted):
            self._call("enable", "--no-reload", self.unit)
        if self._is_stale():
            self._call("daemon-reload")

    def _is_stale(self):
        """Reading everything again costs a host as much as the rest of an install."""
        shown = self._show("LoadState,NeedDaemonReload")
        is_known = shown.get("LoadState") == "loaded"
        return is_known != os.path.exists(self.path) or shown.get("NeedDaemonReload") == "yes"

    def forget(self):
        """Before the unit's file goes."""
        if not os.path.lexists(self.path):
            files.remove(self.wanted)  # its file went by other hands, and disable wants one
        elif os.path.lexists(self.wanted):
            self._call("disable", "--no-reload", self.unit)

    def refuse_masked(self):
        """A mask says that nobody shall start it: that is not undone behind a person's back."""
        if self.is_mask() or self._show("LoadState").get("LoadState") == "masked":
            raise Failure(
                "task_failed",
                f"{self.unit} is masked on this host, so that nobody starts it. If it shall run, "
                f"use: systemctl unmask {self.unit}; then retry.",
            )

    def is_mask(self):
        """Whether a person's mask stands where the unit's file would."""
        return os.path.islink(self.path) and os.readlink(self.path) == "/dev/null"

    def is_known(self):
        """Whether systemd or its folder still knows the unit, running or not."""
        shown = self._show("LoadState,ActiveState")
        gone = shown.get("LoadState") == "not-found"
        return os.path.lexists(self.path) or not gone or shown.get("ActiveState") != "inactive"

    def state(self):
        """What runs, by systemd's word and not by the unit's file, which may be gone."""
        shown = self._show("LoadState,ActiveState,MainPID,ExecMainStatus,Result")
        pid = int(shown.get("MainPID") or 0)
        if shown.get("LoadState") == "not-found" and shown.get("ActiveState") == "inactive":
            return NOT_THERE
        if shown.get("ActiveState") in ("active", "reloading") and pid:
            return State(pid, processes.started_at(pid), f"it runs as process {pid}")
        how = "it is {}".format(shown.get("ActiveState", "unknown"))
        if shown.get("ActiveState") in ("activating", "failed"):
            how = "it ended with {} (status {})".format(
                shown.get("Result"),
                shown.get("ExecMainStatus"),
            )
        return State(None, None, how)

    def start(self):
        self._refuse_to_wait()
        code, _ = self._run("restart", self.unit)
        if code:  # perhaps because it was started too often
            self.clear()
            self._call("restart", self.unit)

    def _refuse_to_wait(self):
        """Do not begin what systemd would put off: a restart stops what runs, and then waits."""
        for patience in (1.0,) * START_SECONDS:
            waits_for = self._pending()
            if not waits_for:
                return
            self.watch.wait(patience)
        raise Failure(
            "task_failed",
            f"{self.unit} cannot be started now: systemd is still busy with {waits_for}, which it "
            "has to wait for. What ran goes on. Look at: systemctl list-jobs; then retry.",
        )

    def _pending(self):
        """The jobs of systemd that a start of ours would wait for, in words; none is nothing."""
        _, said = self._run("list-jobs", "--no-legend", "--no-pager", "--full")
        rows = [line.split() for line in said.splitlines()]
        rows = [row for row in rows if len(row) >= 4]
        if not rows:
            return ""
        # drop-ins of the host may have it wait for more than our own file says
        waited_for = {self.unit, *self._show("After").get("After", "").split()}
        return ", ".join(f"{row[1]} ({row[2]}, {row[3]})" for row in rows if row[1] in waited_for)

    def stop(self, seconds):
        """Stop within so many seconds, whatever the unit allows itself."""
        if not self.is_known():
            return
        state = self.state()
        self._stop("--no-block")
        if state.pid:
            while seconds > 0 and processes.is_alive(state.pid, state.start):
                self.watch.wait(0.1)
                seconds -= 0.1
            if processes.is_alive(state.pid, state.start):
                self._run("kill", "-s", "KILL", self.unit)
        self._stop()

    def _stop(self, *options):
        """Let systemd stop it; a unit whose file is gone is forgotten once nothing of it runs."""
        code, said = self._run("stop", *options, self.unit)
        if code and "not loaded" not in said:
            self._refuse(("stop", self.unit), code, said)

    def clear(self):
        self._run("reset-failed", self.unit)

    def last_words(self):
        """What it wrote last; None where nobody can know."""
        if not any(glob.glob(journal) for journal in JOURNALS):
            return None
        shown = self._show("InvocationID,ExecMainPID")
        only = ["-u" + self.unit]
        if shown.get("InvocationID"):
            # by pid too: of a program that ended at once the journal may know no more than that
            pid = "_PID={}".format(shown.get("ExecMainPID"))
            only = ["_SYSTEMD_INVOCATION_ID=" + shown["InvocationID"], "+", pid]
        asked = ["journalctl", *only, "-o", "cat", "-n", str(LAST_WORDS), "--no-pager", "-q"]
        try:
            # the journal of a busy host lags behind: what was sent so far is to be written first
            self.watch.run(["journalctl", "--sync"], 10)
            before = None
            for patience in (0.1, 0.2, 0.4, 0.8, 1.6, 0):
                _, said = self.watch.run(asked, 10)
                if said and said == before:
                    break
                before = said
                self.watch.wait(patience)
        except (OSError, Failure):
            if self.watch.stopped:
                raise
            return None
        return last_lines(said)

    @property
    def where_to_look(self):
        if not any(glob.glob(journal) for journal in JOURNALS):
            return "systemctl status " + self.unit
        return "journalctl -u " + self.unit

    def _show(self, properties):
        _, text = self._run("show", self.unit, "-p", properties)
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def _run(self, *words):
        return self.watch.run(["systemctl", *words], 120)

    def _call(self, *words):
        code, said = self._run(*words)
        if code:
            self._refuse(words, code, said)

    def _refuse(self, words, code, said):
        cause = "privilege" if re.search("authentication|denied", said) else "task_failed"
        text = "systemctl %s failed: %s. Look at it with: systemctl status %s"
        raise Failure(cause, text % (" ".join(words), last_lines(said) or code, self.unit))


class Process:
    """A process of its own session with a pidfile: no root, and nobody who starts it again."""

    # The program begins once its pidfile is written, so a killed run leaves none without one.
    WAIT = 'read -r go && exec "$@" </dev/null'

    def __init__(self, place, watch):
        self.place = place
        self.watch = watch
        self.path = os.path.join(place.base, "launch.json")
        self.pidfile = os.path.join(place.base, "run.pid")
        self.log = os.path.join(place.log, "output.log")
        self.child = None
        self.log_start = 0

    def refuse_without_rights(self):
        pass  # the first write says it

    def definition(self, launch):
        return json.dumps(launch, indent=2, sort_keys=True) + "\n"

    def refuse_masked(self):
        pass

    def is_mask(self):
        return False

    def is_known(self):
        return os.path.lexists(self.path)

    def define(self):
        pass

    def forget(self):
        pass

    def state(self):
        known = self._known()
        if known is None:
            return NOT_THERE
        if self.child and self.child.pid == known["pid"] and self.child.poll() is not None:
            code = self.child.returncode
            ending = f"signal {-code}" if code < 0 else f"status {code}"
            return State(None, None, "it ended with " + ending)
        if processes.is_alive(known["pid"], known["start"]):
            return State(known["pid"], known["start"], f"it runs as process {known['pid']}")
        return State(None, None, "it ended")

    def _known(self):
        """What the pidfile says; anybody may have written to it."""
        try:
            known = json.loads(files.read(self.pidfile) or b"")
            return {"pid": int(known["pid"]), "start": int(known["start"])}
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def start(self):
        self.stop(10)
        with open(self.path) as file:
            launch = json.load(file)
        os.makedirs(self.place.log, exist_ok=True)
        with open(self.log, "ab") as log:
            if log.tell() > 4 * 1024 * 1024:
                log.truncate(0)
            self.log_start = os.path.getsize(self.log)
            self.child = self._spawn(launch, log)
        start = processes.started_at(self.child.pid)
        with open(self.pidfile + ".new", "w") as file:
            json.dump({"pid": self.child.pid, "start": start}, file)
        os.replace(file.name, self.pidfile)
        try:
            with self.child.stdin as gate:
                gate.write(b"go\n")
        except OSError:
            pass  # it has ended already, and the state says so

    def _spawn(self, launch, log):
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
        if launch["environment"]:
            with open(launch["environment"], encoding="utf-8", errors="surrogateescape") as file:
                variables.update(environment.read(file.read()))
        try:
            return subprocess.Popen(
                ["/bin/sh", "-c", self.WAIT, "sh", *map(_bytes, launch["argv"])],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=launch["folder"],
                env={_bytes(name): _bytes(value) for name, value in variables.items()},
                start_new_session=True,
                preexec_fn=accounts.become(launch.get("user")),
            )
        except OSError as error:
            text = "%s cannot be started: %s."
            raise Failure("agent_exited", text % (launch["argv"][0], error.strerror)) from error

    def stop(self, seconds):
        state = self.state()
        if state.pid and not processes.end(state.pid, state.start, self.watch, seconds, group=True):
            raise Failure("task_failed", f"Process {state.pid} does not end.")
        if self.child:
            self.child.poll()
        if os.path.exists(self.pidfile):
            os.unlink(self.pidfile)

    def clear(self):
        pass

    def last_words(self):
        """What it wrote last; None where nobody can know."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(self.log_start, os.path.getsize(self.log) - 8192))
                return last_lines(log.read().decode("utf-8", "replace"))
        except OSError:
            return None

    @property
    def where_to_look(self):
        return self.log


def _bytes(text):
    """As it stands in our files, whatever the locale of the login is."""
    return text.encode("utf-8", "surrogateescape")


def hang_up(pid):
    os.kill(pid, signal.SIGHUP)
