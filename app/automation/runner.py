"""Run one playbook over some hosts, and leave nothing of it behind."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible_runner.interface import init_runner
from ansible_runner.runner import Runner

from app.automation import processes
from app.automation.channel import receive
from app.automation.events import Event, HostResult, Outcome, Tally, Verdict, read
from app.automation.inventory import (
    CONNECT_TIMEOUT,
    Machine,
    write_inventory,
    write_limit,
    write_private,
)
from app.domain.states import Cause
from app.private import NotPrivate, private_folder

CHECKOUT = Path(__file__).resolve().parents[2]
PLAYBOOKS = CHECKOUT / "playbooks"
NO_FOLDER = "There is no room for this run in {}: {}. Mend that on Hostler's machine, then retry."
LAUNCH = Path(__file__).with_name("launch.py")
PATIENCE = 60.0  # seconds for one event after the last one; who takes longer is not waited for


@dataclass(frozen=True, kw_only=True)
class Play:
    """One attempt: which playbook, over which machines of the slice, with which values."""

    run_id: int
    attempt: int
    playbook: str
    machines: tuple[Machine, ...]
    limit: frozenset[int]
    shared: Mapping[str, Any]
    forks: int
    timeout: timedelta
    host_timeout: timedelta  # for each host's task, connecting and putting back included

    def __post_init__(self) -> None:
        if not self.limit:
            raise ValueError("A run needs at least one host; an empty limit would mean every host.")
        unknown = self.limit - {machine.host_id for machine in self.machines if machine.login}
        if unknown:
            raise ValueError(f"These hosts of the limit have no login here: {sorted(unknown)}.")


class PlaybookRun:
    """One call of ansible-runner in a private folder, which can be stopped from any thread."""

    def __init__(
        self,
        play: Play,
        folder_root: Path,
        *,
        playbooks: Path = PLAYBOOKS,
        quick_handshake: bool = True,
    ) -> None:
        self.play = play
        self.folder_root = folder_root.absolute()
        self.playbook = playbooks / f"{play.playbook}.yml"
        self.quick_handshake = quick_handshake
        self._tally = Tally(play.limit)
        self._on_event: Callable[[Event], None] = lambda _event: None
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._ending: Outcome | None = None  # why we end it: stopped, timeout, error
        self._trouble: BaseException | None = None  # what the caller's on_event raised
        self._taken = 0  # events so far
        self._is_deaf = False  # an event was never done with, and no further one is taken
        self._in_play = threading.Event()
        self._ended = threading.Event()
        self._stopped_hosts: set[int] = set()
        self._host_stopper: threading.Thread | None = None

    def run(self, on_event: Callable[[Event], None]) -> Verdict:
        """Play it to its end; what `on_event` raises ends the run and is raised again here."""
        if not self.playbook.is_file():
            return self._tally.verdict("error", f"There is no playbook {self.playbook.name}.")
        self._on_event = on_event
        try:
            folder = self._make_folder()
        except NotPrivate as error:
            return self._tally.verdict("error", error.message)
        except OSError as error:
            return self._tally.verdict("error", NO_FOLDER.format(self.folder_root, error.strerror))
        with self._private(folder):
            runner = self._prepare(folder)
            with self._deadline():
                self._play(runner)
        if self._trouble:
            raise self._trouble
        return self._verdict(runner)

    def stop(self, grace: float = 3.0) -> bool:
        """End the run: SIGTERM to ansible-playbook, then whatever is left; True when nothing is."""
        return self._end("stopped", grace)

    def stop_hosts(self, host_ids: set[int]) -> None:
        """Cut the connections of these hosts now and whenever they come back; the rest goes on."""
        with self._lock:
            self._stopped_hosts |= host_ids
            if self._host_stopper is None:
                self._host_stopper = threading.Thread(target=self._keep_cutting, daemon=True)
                self._host_stopper.start()

    # --- The private folder -----------------------------------------------------------------

    def _make_folder(self) -> Path:
        private_folder(self.folder_root, "HOSTLER_RUN_DIR")
        prefix = f"r{self.play.run_id}-{self.play.attempt}-"
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder_root))

    @contextlib.contextmanager
    def _private(self, folder: Path) -> Iterator[None]:
        """The folder is ours, and gone at the end, and with it every process of the run."""
        try:
            write_private(folder / "owner", f"{os.getpid()} {processes.start_time(os.getpid())}")
            with self._lock:
                self._folder = folder
            yield
        finally:
            self._ended.set()
            if self._host_stopper:
                self._host_stopper.join()
            processes.end_processes(lambda: processes.processes_in(folder), grace=1.0)
            shutil.rmtree(folder, ignore_errors=True)

    def _prepare(self, folder: Path) -> Runner:
        inventory = write_inventory(
            folder, self.play.machines, self.play.shared, quick_handshake=self.quick_handshake
        )
        limit = write_limit(folder, self.play.limit)
        runner: Runner = init_runner(  # type: ignore[no-untyped-call]
            private_data_dir=str(folder),
            ident="run",
            binary=sys.executable,
            cmdline=shlex.join(["-I", str(LAUNCH), str(self.playbook)]),
            inventory=str(inventory),
            limit=f"@{limit}",
            forks=self.play.forks,
            quiet=True,
            suppress_env_files=True,
            fact_cache_type="none",
            event_handler=self._on_raw_event,  # says why ansible-playbook cannot be started
            cancel_callback=lambda: False,  # or runner puts its signal handlers over those of RQ
        )
        # Runner forgets settings passed without env files, and starts from our whole environment.
        runner.config.suppress_output_file = True
        runner.config.env = self._environment(folder)
        # What is printed holds hosts' words, and runner's own way looks for events in it.
        runner.runner_mode = "subprocess"
        return runner

    def _environment(self, folder: Path) -> dict[str, str]:
        """All that ansible-playbook inherits: nothing of the worker's own environment."""
        return ANSIBLE_SETTINGS | {
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_TASK_TIMEOUT": str(int(self.play.host_timeout.total_seconds())),
            "HOSTLER_RUN": str(self.play.run_id),
            "HOSTLER_FOLDER": str(folder),
            "HOSTLER_PARENT": str(os.getpid()),
        }

    # --- While it plays ---------------------------------------------------------------------

    def _play(self, runner: Runner) -> None:
        self._in_play.set()
        try:
            if self._ending is None:
                self._run_and_listen(runner)
        finally:
            self._in_play.clear()

    def _run_and_listen(self, runner: Runner) -> None:
        """Let runner start ansible-playbook and wait for it, and take what it tells meanwhile."""
        (events, told), (words, printed) = os.pipe(), os.pipe()
        runner.config.input_fd = subprocess.DEVNULL
        runner.config.output_fd, runner.config.error_fd = told, printed
        listener = threading.Thread(target=self._listen, args=[events, words], daemon=True)
        listener.start()
        try:
            runner.run()  # type: ignore[no-untyped-call]
        finally:
            os.close(told)
            os.close(printed)
            self._wait_for(listener)

    def _listen(self, events: int, words: int) -> None:
        try:
            for raw in receive(events, words):
                self._on_raw_event(raw)
        except Exception as trouble:
            self._trouble = self._trouble or trouble
            self._end_soon("error")
        finally:
            os.close(events)
            os.close(words)

    def _wait_for(self, listener: threading.Thread) -> None:
        """Until all is taken that was told, but not for ever for one event of it."""
        while listener.is_alive():
            taken = self._taken
            listener.join(PATIENCE)
            if listener.is_alive() and self._taken == taken:
                self._is_deaf = True
                self._ending = self._ending or "error"
                return

    def _on_raw_event(self, raw: dict[str, Any]) -> bool:
        """Hand on what an event says; what the caller raises ends the run."""
        self._taken += 1
        if self._trouble is None and not self._is_deaf:
            try:
                for event in read(raw):
                    self._take(event)
            except Exception as trouble:
                self._trouble = trouble
                self._end_soon("error")
        return False  # we keep what matters ourselves; write no copy to disk

    def _take(self, event: Event) -> None:
        if isinstance(event, HostResult) and event.host_id in self._stopped_hosts:
            event = _as_stopped(event)
        self._tally.add(event)
        if self._tally.outside_limit:
            self._end_soon("error")
        self._on_event(event)

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        timer = threading.Timer(self.play.timeout.total_seconds(), self._end, ["timeout"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    # --- Ending it --------------------------------------------------------------------------

    def _end_soon(self, why: Outcome) -> None:
        """End the run from the thread that reads its output."""
        threading.Thread(target=self._end, args=[why], daemon=True).start()

    def _end(self, why: Outcome, grace: float = 3.0) -> bool:
        with self._lock:
            self._ending = self._ending or why
            folder = self._folder
        if folder is None:
            return True  # not begun, and now it never will
        deadline = time.monotonic() + grace
        self._end_playbook(folder, deadline)
        remaining = max(0.0, deadline - time.monotonic())
        return processes.end_processes(lambda: processes.processes_in(folder), remaining)

    def _end_playbook(self, folder: Path, deadline: float) -> None:
        """SIGTERM to ansible-playbook alone: it ends its workers, so no host looks unreachable."""
        while time.monotonic() < deadline and not self._ended.is_set():
            playbook = [
                p.pid
                for p in processes.processes_in(folder)
                if processes.parent(p.pid) == os.getpid()
            ]
            for pid in playbook:
                processes.send_signal(pid, signal.SIGTERM)
            if playbook:
                processes.wait_for_one(playbook, deadline - time.monotonic())
                return
            if not self._in_play.is_set():
                return
            self._ended.wait(0.05)  # between our check and the start of ansible-playbook

    def _keep_cutting(self) -> None:
        folder, seen = None, set[int]()
        while not self._ended.is_set():
            begun = time.monotonic()
            folder = folder or self._folder
            for process in processes.processes_in(folder) if folder else ():
                if process.host_id in self._stopped_hosts:
                    # A client ended by SIGTERM answers 255, which Ansible reads as unreachable.
                    number = signal.SIGKILL if process.pid in seen else signal.SIGTERM
                    processes.send_signal(process.pid, number)
                    seen.add(process.pid)
            self._ended.wait(max(0.1, 4 * (time.monotonic() - begun)))

    # --- The end ----------------------------------------------------------------------------

    def _verdict(self, runner: Runner) -> Verdict:
        if self._tally.outside_limit:
            names = ", ".join(str(host_id) for host_id in sorted(self._tally.outside_limit))
            return self._tally.verdict(
                "error", f"The playbook touched hosts outside its limit ({names}) and was stopped."
            )
        if self._ending and not self._tally.statistics:
            return self._tally.verdict(self._ending, ENDED[self._ending])
        if self._tally.statistics:
            return self._tally.verdict("successful" if runner.rc == 0 else "failed", "")
        return self._tally.verdict("error", self._last_words(runner))

    def _last_words(self, runner: Runner) -> str:
        return self._tally.last_words or f"ansible-playbook ended with code {runner.rc}."


ENDED = {
    "stopped": "Stopped on request.",
    "timeout": "The time for this run was over.",
    "error": "Its results could not be recorded.",
}


def _as_stopped(result: HostResult) -> HostResult:
    """A host whose connection we cut did not fail by itself."""
    if result.status not in ("failed", "unreachable"):
        return result
    return replace(result, cause=Cause.CANCELLED, reason="Stopped on request.")


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANSIBLE_SETTINGS = {
    "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
    "ANSIBLE_ROLES_PATH": str(CHECKOUT / "roles"),
    "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback_plugins")),
    "ANSIBLE_STDOUT_CALLBACK": "hostler_events",
    "ANSIBLE_INVENTORY_ENABLED": "yaml",
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    "ANSIBLE_HOST_KEY_CHECKING": "false",
    "ANSIBLE_TIMEOUT": str(CONNECT_TIMEOUT),
    "ANSIBLE_PIPELINING": "true",
    "ANSIBLE_SSH_RETRIES": "0",
    "ANSIBLE_GATHERING": "explicit",
    "ANSIBLE_VARS_ENABLED": "",  # no group_vars and host_vars: it would look for every host's
    "ANSIBLE_CACHE_PLUGIN": "memory",
    "ANSIBLE_RETRY_FILES_ENABLED": "false",
    "ANSIBLE_NOCOLOR": "true",
}


# --- Afterwards -----------------------------------------------------------------------------


def clean_folders(root: Path, live_runs: set[int]) -> None:
    """Remove the folders whose run is over and whose owner died before it could."""
    for folder in root.iterdir() if root.is_dir() else ():
        name = processes.RUN_FOLDER.fullmatch(folder.name)
        if name and int(name[1]) not in live_runs and not _owner_lives(folder):
            processes.end_processes(lambda folder=folder: processes.processes_in(folder), 3.0)  # type: ignore[misc]
            shutil.rmtree(folder, ignore_errors=True)


def _owner_lives(folder: Path) -> bool:
    try:
        pid, started = (folder / "owner").read_text().split()
    except (OSError, ValueError):
        return time.time() - folder.stat().st_mtime < 60  # made this moment, or never finished
    return processes.start_time(int(pid)) == started
