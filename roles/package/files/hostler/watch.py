"""Wait, and notice meanwhile that nobody reads us, that we shall stop, or that time is up."""

import os
import select
import signal
import subprocess
import threading
import time

from .failure import Failure

GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
HEARTBEAT = 2.0


class Watch:
    """Every wait of a run goes through here; outside the main thread nothing may wait."""

    def __init__(self, seconds=None, reader=1):
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds if seconds else None
        self.reader = reader
        self.parent = os.getppid()
        self.signal = None
        self.stopped = False
        self.is_restoring = False
        self.beat = time.monotonic()
        self.woken, self.waker = os.pipe()
        for end in (self.woken, self.waker):
            os.set_blocking(end, False)

    def listen(self):
        """Turn the signals that end a process into a failure at the next look."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self.waker)

    def _note(self, number, _frame):
        self.signal = number

    def look(self):
        """Stop here if there is a reason to."""
        self._poll(0)

    def wait(self, seconds, handle=None):
        """Wait until the handle can be read (True) or so many seconds went by (False)."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if self._poll(max(0.0, min(left, HEARTBEAT)), handle):
                return True
            if left <= 0:
                return False

    def _poll(self, seconds, handle=None):
        self._beat()
        poll = select.poll()
        poll.register(self.woken, select.POLLIN)
        if not self.is_restoring:
            poll.register(self.reader, 0)
        if handle is not None:
            poll.register(handle, select.POLLIN)
        ready = dict(poll.poll(seconds * 1000))
        if self.woken in ready:
            os.read(self.woken, 512)
        if not self.is_restoring:
            self._check(ready.get(self.reader, 0))
        return handle is not None and handle in ready

    def _check(self, reader):
        if self.signal:
            self._stop("cancelled", f"The run was told to stop (signal {self.signal}).")
        if reader & GONE or os.getppid() != self.parent:
            self._stop("cancelled", "Nobody listens to this run any more.")
        if self.deadline and time.monotonic() > self.deadline:
            text = "It took longer than the %d seconds there are. Look at the last phase."
            self._stop("timeout", text % self.seconds)

    def _stop(self, cause, reason):
        self.stopped = True
        raise Failure(cause, reason)

    def _beat(self):
        # A relay such as sudo's pty notices a closed connection only when it has to write; Ansible
        # drops lines that come before the JSON.
        now = time.monotonic()
        if now - self.beat < HEARTBEAT:
            return
        self.beat = now
        poll = select.poll()
        poll.register(self.reader, select.POLLOUT)
        if dict(poll.poll(0)).get(self.reader, 0) == select.POLLOUT:
            try:
                os.write(self.reader, b"\n")
            except OSError:
                pass  # the next look says so

    def attend(self, work):
        """Do blocking work in a thread; its result, its error, or ours when we must stop."""
        done, end = os.pipe()
        box = {}

        def body():
            try:
                box["result"] = work()
            except BaseException as error:
                box["error"] = error
            finally:
                os.close(end)

        threading.Thread(target=body, daemon=True).start()
        try:
            while not self.wait(HEARTBEAT, done):
                pass
        finally:
            os.close(done)
        if "error" in box:
            raise box["error"]
        return box["result"]

    def run(self, argv, seconds, **options):
        """Run a program, never through a shell: (exit code, what it said)."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        options.setdefault("env", environment)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        said, end = [], time.monotonic() + seconds
        try:
            while self._listen_to(process, said, end):
                pass
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
        return process.wait(), b"".join(said).decode("utf-8", "replace").strip()

    def _listen_to(self, process, said, end):
        if not self.wait(max(0.0, end - time.monotonic()), process.stdout.fileno()):
            raise Failure("timeout", "{} did not end in time.".format(" ".join(process.args[:3])))
        piece = os.read(process.stdout.fileno(), 65536)
        said.append(piece)
        return piece
