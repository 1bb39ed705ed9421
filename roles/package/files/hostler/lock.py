"""One run at a time on a host, and never a stale one."""

import fcntl
import json
import os
import time

from . import processes
from .failure import Failure

PATIENCE = 30.0  # for a run by hand, which nobody may stop but its owner
GRACE = 8.0  # for a stale run to put back what was there
REMEMBERED = 200
LOG_BYTES = 256 * 1024


def order(token):
    """Newer is greater: the fence counts claims of hosts, and runs are numbered as they begin."""
    return [int(token.get(key) or 0) for key in ("fence", "run", "task", "attempt")]


def name_of(token):
    if not token:
        return "a run by hand"
    return "run {} of task {} (attempt {})".format(
        *tuple(token.get(key, "?") for key in ("run", "task", "attempt"))
    )


class Lock:
    """The host's lock file, who holds it, and the tokens this host has seen."""

    def __init__(self, folder, token, action, watch):
        self.folder = folder
        self.token = token or None
        self.action = action
        self.watch = watch
        self.handle = None
        self.is_held = False

    def take(self):
        """Hold the lock, or refuse: stale, revoked, or busy with something newer."""
        self._open()
        end = time.monotonic() + PATIENCE
        while not self._try():
            self._make_way(end)
        try:
            self._refuse_stale()
        except Failure:
            self._note("refused")
            self.drop()
            raise
        self._remember()
        self._sign()
        self.is_held = True
        self._note("taken")

    def drop(self):
        if self.handle is None:
            return
        if self.is_held:
            os.ftruncate(self.handle, 0)
            self._note("released")
        os.close(self.handle)
        self.handle = None

    def release(self):
        """Make sure that no run of this token, or an older one, works here or ever will."""
        self._open()
        self._remember(revoke=True)
        self._note("revoked")
        try:
            return self._drive_out(time.monotonic() + GRACE + 4)
        finally:
            os.close(self.handle)
            self.handle = None

    def _drive_out(self, end):
        stopped = None
        while not self._try():
            holder = self._holder()
            name = name_of(holder.get("token")).capitalize() if holder else "A run"
            if holder and self._is_newer(holder.get("token")):
                return True, f"Nothing of it is here. {name} works here now."
            if time.monotonic() > end:
                pid = holder.get("pid") if holder else "unknown"
                return False, f"{name} still works here as process {pid}."
            if holder:
                stopped = name
                self._end(holder)
            self.watch.wait(0.05)
        if stopped:
            return True, f"{stopped} was stopped here and put back what there was before."
        return True, "Nothing of it was here."

    def _is_newer(self, token):
        return (
            not token or self._origin(token) != self._origin() or order(token) > order(self.token)
        )

    def _open(self):
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        path = os.path.join(self.folder, "lock")
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    def _try(self):
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _make_way(self, end):
        """Stop a holder that is not newer than we are; wait for one that runs by hand."""
        holder = self._holder()
        token = holder.get("token") if holder else None
        if not holder or not token or not self.token or self._origin(token) != self._origin():
            if time.monotonic() > end:
                raise Failure("task_failed", self._busy(holder))
            self.watch.wait(0.1)
        elif self._is_newer(token):
            self._note("refused")
            raise Failure(
                "cancelled", f"{name_of(token).capitalize()} works on this host; this run is older."
            )
        else:
            self._end(holder)

    def _busy(self, holder):
        if not holder:
            return "Another run holds this host's lock. Wait for it and retry."
        who = name_of(holder.get("token")).capitalize()
        return (
            f"{who} has been working on this host as process {holder.get('pid')} since "
            f"{holder.get('since')}. Wait for it and retry."
        )

    def _end(self, holder):
        self._note("stops", holder)
        processes.end(holder.get("pid") or 0, holder.get("start"), self.watch, GRACE)

    def _refuse_stale(self):
        if not self.token:
            return
        seen = self._seen().get(self._origin(), {})
        newest = seen.get("newest") or [0]
        if order(self.token) in seen.get("revoked", []):
            text = "%s was cancelled; it may not start here any more."
            raise Failure("cancelled", text % name_of(self.token).capitalize())
        if order(self.token) < newest:
            text = (
                "%s is stale: a newer run has worked on this host since. Retry to start a new one."
            )
            raise Failure("cancelled", text % name_of(self.token).capitalize())

    def _origin(self, token=None):
        return str((token or self.token or {}).get("origin") or "")

    def _seen(self):
        try:
            with open(os.path.join(self.folder, "tokens"), encoding="utf-8") as file:
                return {key: _well_formed(known) for key, known in json.load(file).items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return {}

    def _remember(self, revoke=False):
        if not self.token:
            return
        seen = self._seen()
        mine = seen.setdefault(self._origin(), {"newest": [0], "revoked": []})
        mine["newest"] = max(mine["newest"], order(self.token))
        if revoke and order(self.token) not in mine["revoked"]:
            mine["revoked"] = (mine["revoked"] + [order(self.token)])[-REMEMBERED:]
        path = os.path.join(self.folder, "tokens")
        with open(f"{path}.{os.getpid()}", "w") as file:
            json.dump(seen, file)
        os.replace(file.name, path)

    def _sign(self):
        holder = {
            "pid": os.getpid(),
            "start": processes.started_at(os.getpid()),
            "token": self.token,
            "action": self.action,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, json.dumps(holder).encode(), 0)

    def _holder(self):
        try:
            holder = json.loads(os.pread(self.handle, 4096, 0).decode())
        except ValueError:
            return None
        return holder if isinstance(holder, dict) else None

    def _note(self, deed, holder=None):
        """One line in the lock's log, so that a person can see who was here when."""
        path = os.path.join(self.folder, "log")
        now = time.time()
        token = self.token or {}
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = f"{moment}.{int(now % 1 * 1000000):06d}Z {deed} {self.action} pid={os.getpid()}"
        for key in ("run", "task", "attempt"):
            line += f" {key}={token.get(key)}"
        if holder:
            line += f" holder={holder.get('pid')}"
        if os.path.exists(path) and os.path.getsize(path) > LOG_BYTES:
            os.replace(path, path + ".1")
        with open(path, "a") as log:
            log.write(line + "\n")


def _well_formed(known):
    """What is known of one origin, in the shape it is written in; anything else is an error."""
    return {
        "newest": [int(number) for number in known["newest"]],
        "revoked": [[int(number) for number in order] for order in known["revoked"]],
    }
