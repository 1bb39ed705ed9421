"""Runs are real: ansible-runner, ansible-playbook, ssh and sshd."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.automation import processes, runner
from app.automation.crew import TOGETHER
from app.automation.events import Event, HostResult, HostStarted, Output
from app.automation.inventory import Jump, Login, Machine, write_limit
from app.automation.processes import parent, processes_in, stray_pids
from app.automation.runner import CHECKOUT, PlaybookRun, clean_folders
from app.domain.states import Cause
from tests.automation.loopback import PASSWORD, Loopback, descendants
from tests.automation.record import PLAYBOOKS, play

NOBODY = Login(account="root")
SECONDS = 240  # for what takes a few, on a machine that is busy with other tests


def local(host_id: int) -> Machine:
    """A machine of the playbooks that say `connection: local`."""
    return Machine(host_id=host_id, address="127.0.0.1", login=NOBODY, python=sys.executable)


def a_run(root: Path, playbook: str, *machines: Machine, **values: Any) -> PlaybookRun:
    return PlaybookRun(play(playbook, *machines, **values), root, playbooks=PLAYBOOKS)


def by_key(host: Loopback) -> Login:
    return Login(account="root", private_key=host.private_key)


class Watcher:
    """Collects events, and lets a test wait for the one it needs."""

    def __init__(self, wanted: Callable[[Event], bool] = lambda _event: False) -> None:
        self.events: list[Event] = []
        self._came = threading.Condition()
        self._wanted = wanted

    def __call__(self, event: Event) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait(self, wanted: Callable[[Event], bool] | None = None) -> None:
        """Until such an event has come, or else the one it was made for."""
        wanted = wanted or self._wanted
        with self._came:
            has_come = self._came.wait_for(lambda: any(map(wanted, self.events)), SECONDS)
        assert has_come, "the event never came"

    @property
    def results(self) -> list[HostResult]:
        return [event for event in self.events if isinstance(event, HostResult)]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Output))


def started(task: str, host_id: int | None = None) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, HostStarted) and event.task == task and host_id in (None, event.host_id)
    )


def finished(host_ids: set[int], task: str) -> Callable[[Event], bool]:
    """All of these hosts have ended the task."""
    waiting = set(host_ids)

    def check(event: Event) -> bool:
        if isinstance(event, HostResult) and event.task == task:
            waiting.discard(event.host_id)
        return not waiting

    return check


class Background:
    """A run in a thread of its own, for tests that act meanwhile."""

    def __init__(self, run: PlaybookRun, on_event: Callable[[Event], None]) -> None:
        self.thread = threading.Thread(target=self._run, args=[run, on_event])
        self.thread.start()

    def _run(self, run: PlaybookRun, on_event: Callable[[Event], None]) -> None:
        self.verdict = run.run(on_event)

    def join(self) -> None:
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


# --- How it goes ----------------------------------------------------------------------------


def test_a_run_proves_every_host(root: Path) -> None:
    watcher = Watcher()

    verdict = a_run(root, "local", local(1), local(2)).run(watcher)

    assert (verdict.outcome, verdict.proven_ok) == ("successful", {1, 2})
    assert (verdict.failed, verdict.not_started, verdict.outside_limit) == ({}, set(), set())
    assert [p["key"] for p in watcher.results[0].result["phases"]] == ["check", "start"]
    assert "ok: [host_1]" in watcher.text or "changed: [host_1]" in watcher.text


def test_only_the_hosts_of_the_limit_are_touched(root: Path) -> None:
    everything = play("local", local(1), local(2), local(3))
    watcher = Watcher()

    verdict = PlaybookRun(replace(everything, limit=frozenset({2})), root, playbooks=PLAYBOOKS).run(
        watcher
    )

    assert verdict.proven_ok == {2}
    assert {result.host_id for result in watcher.results} == {2}


@pytest.mark.parametrize("forks", [4, 13])
def test_no_host_is_left_over_when_workers_are_forked_some_at_a_time(
    root: Path, forks: int
) -> None:
    hosts = range(1, TOGETHER + 4)
    crowd = replace(play("local", *map(local, hosts)), forks=forks)

    verdict = PlaybookRun(crowd, root, playbooks=PLAYBOOKS).run(Watcher())

    assert verdict.proven_ok == set(hosts)


def test_an_empty_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one host"):
        replace(play("local", local(1)), limit=frozenset())


def test_a_host_without_a_login_cannot_be_in_the_limit() -> None:
    named = Machine(host_id=2, address="127.0.0.1")

    with pytest.raises(ValueError, match=r"no login here: \[2\]"):
        replace(play("local", local(1), named), limit=frozenset({1, 2}))


def test_a_result_from_outside_the_limit_stops_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "write_limit", lambda folder, _ids: write_limit(folder, [1, 2]))
    wider = replace(play("sleep_local", local(1), local(2)), limit=frozenset({1}))

    verdict = PlaybookRun(wider, root, playbooks=PLAYBOOKS).run(lambda _event: None)

    assert verdict.outside_limit == {2}
    assert verdict.outcome == "error"
    assert "outside its limit (2)" in verdict.message


def test_a_playbook_that_cannot_start_says_why(root: Path) -> None:
    verdict = a_run(root, "syntax_error", local(1)).run(lambda _event: None)

    assert verdict.outcome == "error"
    assert "nobody_has_this" in verdict.message
    assert verdict.not_started == {1}


def pipes_of(pid: int) -> set[str]:
    """The pipes this process has, but for what it prints to."""
    folder = Path(f"/proc/{pid}/fd")
    links = {entry.name: os.readlink(entry) for entry in folder.iterdir() if entry.is_symlink()}
    printed = {links.pop(name, "") for name in "012"}
    return {link for link in links.values() if link.startswith("pipe:")} - printed


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has ended


def test_only_ansible_playbook_itself_can_tell_us_anything(root: Path) -> None:
    run = a_run(root, "sleep_local", local(1), local(2))
    background = Background(run, lambda _event: None)
    deadline = time.monotonic() + SECONDS
    try:
        while not any(command_of(pid).startswith(b"sleep\0") for pid in pids_of(run)):
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
        found = {pid: pipes_of(pid) for pid in pids_of(run)}
        (playbook,) = (pid for pid in found if parent(pid) == os.getpid())
        channel = found.pop(playbook) & pipes_of(os.getpid())
    finally:
        run.stop()
        background.join()

    assert len(channel) == 1, "one pipe leads from it to us"
    assert len(found) >= 3, "workers, and what they have started"
    assert not [pid for pid, pipes in found.items() if pipes & channel]


def pids_of(run: PlaybookRun) -> list[int]:
    return [process.pid for process in processes_in(run._folder)] if run._folder else []


def test_an_event_that_is_never_done_with_does_not_hold_up_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 0.5)
    for_ever, taken = threading.Event(), []

    def hang(event: Event) -> None:
        taken.append(event)
        for_ever.wait()

    verdict = a_run(root, "local", local(1)).run(hang)

    for_ever.set()
    assert (verdict.outcome, verdict.proven_ok) == ("error", set())
    assert len(taken) == 1


def test_a_missing_playbook_is_an_error(root: Path) -> None:
    verdict = a_run(root, "no_such", local(1)).run(lambda _event: None)

    assert (verdict.outcome, verdict.message) == ("error", "There is no playbook no_such.yml.")


def test_without_room_for_its_folder_a_run_touches_nobody_and_says_where(root: Path) -> None:
    full = root / "full"
    full.touch()  # where nothing can be made

    verdict = a_run(full, "local", local(1)).run(lambda _event: None)

    full.unlink()
    assert verdict.outcome == "error"
    assert str(full) in verdict.message
    assert verdict.not_started == {1}


def test_the_environment_of_the_worker_stays_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "tr0ub4dor")
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", "/elsewhere")
    watcher = Watcher()

    a_run(root, "environment", local(1)).run(watcher)

    environment = watcher.results[0].result["stdout"]
    assert "tr0ub4dor" not in environment
    assert "/elsewhere" not in environment
    assert "HOSTLER_RUN=1" in environment


def test_signal_handlers_stay_as_they_were(root: Path) -> None:
    mine = lambda _number, _frame: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    during = []
    try:
        a_run(root, "local", local(1)).run(
            lambda _event: during.append(signal.getsignal(signal.SIGTERM))
        )
        after = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert set(during) == {mine}
    assert after is mine


def test_the_folder_is_private_while_it_lasts(root: Path) -> None:
    modes: dict[str, str] = {}

    def look(_event: Event) -> None:
        [folder] = root.iterdir()
        modes["folder"] = stat.filemode(folder.stat().st_mode)
        for path in (folder / "hosts.json", folder / "limit", *folder.glob("password/*")):
            modes[path.name] = stat.filemode(path.stat().st_mode)

    machine = replace(local(1), login=Login(account="root", password="hush"))
    a_run(root, "local", machine).run(look)

    assert modes.pop("folder") == "drwx------"
    assert modes == dict.fromkeys(["hosts.json", "limit", "host_1"], "-rw-------")


# --- Trouble on our side --------------------------------------------------------------------


def test_trouble_with_recording_ends_the_run_and_is_told(root: Path) -> None:
    def cannot_record(event: Event) -> None:
        if isinstance(event, HostStarted):
            raise OSError("the database is gone")

    with pytest.raises(OSError, match="the database is gone"):
        a_run(root, "sleep_local", local(1)).run(cannot_record)


def test_a_run_takes_no_longer_than_it_may(root: Path) -> None:
    patient = play("sleep_local", local(1))

    verdict = PlaybookRun(
        replace(patient, timeout=timedelta(seconds=2)), root, playbooks=PLAYBOOKS
    ).run(lambda _event: None)

    assert verdict.outcome == "timeout"
    assert verdict.proven_ok == set()
    assert {cause for cause, _ in verdict.failed.values()} <= {Cause.TIMEOUT}


# --- Over ssh -------------------------------------------------------------------------------


def test_logins_by_key_and_by_password(root: Path, host: Loopback) -> None:
    by_password = Login(account="asked", password=PASSWORD, become=False)

    verdict = a_run(
        root,
        "phases",
        host.machine(1),
        host.machine(2, login=by_password),
        host.machine(3, address="::1"),
    ).run(lambda _event: None)

    assert verdict.proven_ok == {1, 2, 3}


@pytest.mark.skipif(not shutil.which("sudo"), reason="sudo is not installed")
def test_sudo_with_and_without_a_password(root: Path, host: Loopback) -> None:
    verdict = a_run(
        root,
        "phases",
        host.machine(1, "trusted"),
        host.machine(2, login=Login(account="asked", password=PASSWORD)),
        host.machine(3, "asked"),
    ).run(lambda _event: None)

    assert verdict.proven_ok == {1, 2}
    assert verdict.failed[3][0] is Cause.PRIVILEGE


def test_each_wrong_login_fails_alone(root: Path, host: Loopback, tmp_path: Path) -> None:
    trap = f"-oProxyCommand=touch {tmp_path}/owned"

    verdict = a_run(
        root,
        "phases",
        host.machine(1, login=Login(account="tester", password="wrong")),
        host.machine(2, login=Login(account="root")),
        host.machine(3, login=Login(account=trap, private_key=host.private_key)),
        host.machine(4),
    ).run(lambda _event: None)

    assert {cause for cause, _ in verdict.failed.values()} == {Cause.AUTH}
    assert verdict.failed.keys() == {1, 2, 3}
    assert verdict.proven_ok == {4}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_host_that_falls_silent_is_given_up(root: Path, host: Loopback) -> None:
    silent = host.machine(1, values={"how": "freeze"})
    well = host.machine(2, values={"how": "nothing"})

    verdict = a_run(root, "misbehave", silent, well).run(lambda _event: None)

    assert verdict.failed[1][0] is Cause.CONNECTION_LOST
    assert verdict.failed[2][0] is Cause.TASK_FAILED  # the other went its own way


def test_the_way_through_jumps(root: Path, host: Loopback) -> None:
    by_password = Login(account="asked", password=PASSWORD)
    jumps = tuple(
        Jump(address="127.0.0.1", port=host.port, login=way) for way in (by_password, by_key(host))
    )

    verdict = a_run(root, "phases", host.machine(1, jumps=jumps)).run(lambda _event: None)

    assert verdict.proven_ok == {1}


@pytest.mark.slow
def test_hosts_behind_one_jump_share_the_way_there(
    root: Path, host: Loopback, tmp_path: Path
) -> None:
    jump = Jump(address="127.0.0.1", port=host.port, login=by_key(host))
    watcher = Watcher(finished({1, 2}, "Begin"))
    patient = host.machine(2, jumps=(jump,), values={"until": str(tmp_path / "go on")})
    run = a_run(root, "sleep", host.machine(1, jumps=(jump,)), patient)
    background = Background(run, watcher)
    watcher.wait()

    masters = [p for p in processes.find_processes(root=root) if is_master(p.pid)]
    run.stop_hosts({1})
    watcher.wait(finished({1}, "Take a while"))
    (tmp_path / "go on").touch()
    background.join()

    assert [p.host_id for p in masters] == [None]  # the jump's
    assert background.verdict.proven_ok == {2}


def is_master(pid: int) -> bool | None:
    """Whether it is a connection that is kept; None: it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ssh: ")
    except OSError:
        return None


@pytest.mark.slow
def test_a_password_is_in_no_command_line_and_no_environment(root: Path, host: Loopback) -> None:
    found: list[str] = []
    secret = Login(account="asked", password=PASSWORD, become=False)

    def look(_event: Event) -> None:
        for pid in stray_pids(root=root):
            for name in ("cmdline", "environ"):
                try:
                    content = Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    continue
                if PASSWORD.encode() in content or host.private_key.encode()[40:80] in content:
                    found.append(f"{name}: {content!r}")

    watcher = Watcher(started("Take a while", 1))
    run = a_run(root, "sleep", host.machine(1, login=secret), host.machine(2), seconds=3)
    background = Background(run, watcher)
    watcher.wait()
    while background.thread.is_alive():
        look(watcher.events[0])
        background.thread.join(0.2)

    assert background.verdict.proven_ok == {1, 2}
    assert found == []


# --- Stopping -------------------------------------------------------------------------------


def test_stop_leaves_no_process(root: Path, host: Loopback) -> None:
    watcher = Watcher(started("Take a while"))
    run = a_run(root, "sleep", host.machine(1), host.machine(2))
    background = Background(run, watcher)
    watcher.wait()

    stopped = run.stop()
    left = stray_pids(1, root)
    background.join()

    assert stopped
    assert left == []
    assert background.verdict.outcome == "stopped"
    assert {cause for cause, _ in background.verdict.failed.values()} <= {Cause.CANCELLED}
    assert not [result for result in watcher.results if result.status == "unreachable"]


def test_stop_before_the_start_means_it_never_starts(root: Path) -> None:
    run = a_run(root, "local", local(1))

    stopped = run.stop()
    verdict = run.run(lambda _event: None)

    assert stopped
    assert (verdict.outcome, verdict.not_started) == ("stopped", {1})


def test_stop_from_within_an_event(root: Path) -> None:
    run = a_run(root, "sleep_local", local(1))

    verdict = run.run(lambda event: run.stop() and None if isinstance(event, HostStarted) else None)

    assert verdict.outcome == "stopped"


@pytest.mark.slow
def test_stopping_some_hosts_lets_the_others_go_on(
    root: Path, host: Loopback, tmp_path: Path
) -> None:
    watcher = Watcher(started("Take a while", 2))
    patient = [host.machine(n, values={"until": str(tmp_path / "go on")}) for n in (1, 3)]
    run = a_run(root, "sleep", host.machine(2), *patient)
    background = Background(run, watcher)
    watcher.wait()

    run.stop_hosts({2})
    watcher.wait(finished({2}, "Take a while"))
    (tmp_path / "go on").touch()
    background.join()

    assert background.verdict.proven_ok == {1, 3}
    assert background.verdict.failed == {2: (Cause.CANCELLED, "Stopped on request.")}
    assert {r.host_id for r in watcher.results if r.status in ("unreachable", "failed")} == {2}


@pytest.mark.slow
def test_a_stopped_host_that_waits_for_its_turn_is_never_touched(
    root: Path, host: Loopback, tmp_path: Path
) -> None:
    first = host.machine(1, values={"until": str(tmp_path / "go on")})
    second = host.machine(2, values={"mark": str(tmp_path / "second")})
    watcher = Watcher(started("Take a while", 1))
    run = PlaybookRun(replace(play("sleep", first, second), forks=1), root, playbooks=PLAYBOOKS)
    background = Background(run, watcher)
    watcher.wait()

    run.stop_hosts({2})
    (tmp_path / "go on").touch()
    background.join()

    assert background.verdict.proven_ok == {1}
    assert background.verdict.failed[2][0] is Cause.CANCELLED


# --- Violence -------------------------------------------------------------------------------

VICTIM = """
    import sys
    from pathlib import Path
    from tests.automation.record import play, PLAYBOOKS
    from tests.automation.loopback import Loopback
    from app.automation.runner import PlaybookRun
    folder, port, root = sys.argv[1:]
    host = Loopback(Path(folder), int(port), (Path(folder) / "user_key").read_text(), 0)
    both = play("sleep", host.machine(1), host.machine(2))
    run = PlaybookRun(both, Path(root), playbooks=PLAYBOOKS)
    run.run(lambda event: print(type(event).__name__, getattr(event, "task", ""), flush=True))
"""


@pytest.fixture
def victim(root: Path, host: Loopback) -> Iterator[subprocess.Popen[str]]:
    """A process of its own in the middle of a run."""
    arguments = [textwrap.dedent(VICTIM), str(host.folder), str(host.port), str(root)]
    command = [sys.executable, "-c", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stdout
        while line := process.stdout.readline():
            if line.startswith("HostStarted Take a while"):
                break
        assert in_full_swing(root)
        yield process
        process.kill()


def clients(root: Path) -> list[int]:
    """The ssh of each host at work; the connections that are kept are none of them."""
    found = [process.pid for process in processes.find_processes(1, root) if process.is_ssh]
    return [pid for pid in found if is_master(pid) is False]


def in_full_swing(root: Path, hosts: int = 2) -> bool:
    """Whether all hosts come to have their ssh."""
    waiting = threading.Event()
    return any(len(clients(root)) >= hosts or waiting.wait(0.1) for _ in range(SECONDS * 10))


def everyone_gone(root: Path) -> bool:
    """Whether the processes of the run end by themselves, before they would be done."""
    ended = threading.Event()
    for _ in range(1000):  # 100 s: they would be done after 200
        if not processes.find_processes(root=root):
            return True
        ended.wait(0.1)
    return False


def test_killing_the_worker_ends_ansible(root: Path, victim: subprocess.Popen[str]) -> None:
    assert len(stray_pids(1, root)) >= 3  # ansible-playbook, its workers, their ssh

    victim.kill()
    victim.wait()
    gone = everyone_gone(root)
    swept = processes.kill_strays(1, 2, root)
    clean_folders(root, set())

    assert gone
    assert swept
    assert list(root.iterdir()) == []


def test_killing_ansible_playbook_ends_its_workers(
    root: Path, victim: subprocess.Popen[str]
) -> None:
    [playbook] = [
        pid
        for pid in stray_pids(1, root)
        if pid in descendants(victim.pid) and parent(pid) == victim.pid
    ]

    os.kill(playbook, signal.SIGKILL)
    code = victim.wait(SECONDS)

    assert code == 0
    assert stray_pids(1, root) == []


def test_a_run_whose_ansible_was_killed_is_an_error(root: Path, host: Loopback) -> None:
    watcher = Watcher(started("Take a while"))
    background = Background(a_run(root, "sleep", host.machine(1)), watcher)
    watcher.wait()

    [folder] = root.iterdir()
    for process in processes_in(folder):
        if parent(process.pid) == os.getpid():
            os.kill(process.pid, signal.SIGKILL)
    background.join()

    assert background.verdict.outcome == "error"
    assert background.verdict.failed[1][0] is Cause.LOST


def test_folders_of_the_living_stay(root: Path) -> None:
    seen: list[bool] = []

    def clean(_event: Event) -> None:
        clean_folders(root, set())
        seen.append(bool(list(root.iterdir())))

    verdict = a_run(root, "local", local(1)).run(clean)

    assert all(seen)
    assert verdict.proven_ok == {1}
