"""Record what ansible-runner really says: python -m tests.automation.record [scenario …]

As root, with openssh-server and sudo installed; hosts are a throwaway sshd on 127.0.0.1.
"""

import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.automation.inventory import Login, Machine
from app.automation.runner import CHECKOUT, Play, PlaybookRun
from tests.automation.loopback import PASSWORD, Loopback, loopback, make_key
from tests.ports import keep_port, port_of

HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings"
PLAYBOOKS = HERE / "playbooks"


class Recorder(PlaybookRun):
    """A run that keeps the raw events as well."""

    raw: list[dict[str, Any]]

    def _on_raw_event(self, raw: dict[str, Any]) -> bool:
        self.raw.append(json.loads(json.dumps(raw)))
        return super()._on_raw_event(raw)


def play(playbook: str, *machines: Machine, **values: Any) -> Play:
    """A play over these machines, all of them in the limit."""
    return Play(
        run_id=values.pop("run_id", 1),
        attempt=1,
        playbook=playbook,
        machines=machines,
        limit=frozenset(machine.host_id for machine in machines if machine.login),
        shared=values,
        forks=10,
        timeout=timedelta(minutes=4),
        host_timeout=timedelta(minutes=4),
    )


def login(account: str, **how: Any) -> Login:
    return Login(account=account, **how)


SCENARIOS: dict[str, Callable[[Loopback], Play]] = {}


def scenario(make: Callable[[Loopback], Play]) -> Callable[[Loopback], Play]:
    SCENARIOS[make.__name__] = make
    return make


@scenario
def ok(host: Loopback) -> Play:
    return play("phases", host.machine(1), host.machine(2))


@scenario
def mixed(host: Loopback) -> Play:
    one, two = host.machine(1), host.machine(2)
    return play(
        "mixed",
        dataclasses.replace(one, values={"below": 3}),
        dataclasses.replace(two, values={"below": 2}),
    )


@scenario
def wrong_password(host: Loopback) -> Play:
    return play("phases", host.machine(1, login=login("tester", password="wrong")), host.machine(2))


@scenario
def wrong_key(host: Loopback) -> Play:
    with tempfile.TemporaryDirectory() as folder:
        other = make_key(Path(folder) / "other")
    return play("phases", host.machine(1, login=login("root", private_key=other)), host.machine(2))


@scenario
def not_a_key(host: Loopback) -> Play:
    return play("phases", host.machine(1, login=login("root", private_key="not a key")))


@scenario
def wrong_passphrase(host: Loopback) -> Play:
    with tempfile.TemporaryDirectory() as folder:
        sealed = make_key(Path(folder) / "sealed", "sesame")
    return play("phases", host.machine(1, login=login("root", private_key=sealed, passphrase="no")))


@scenario
def passphrase(host: Loopback) -> Play:
    sealed = host.folder / "sealed"
    if not sealed.exists():
        make_key(sealed, "sesame")
        with (host.folder / "authorized_keys").open("a") as file:
            file.write(sealed.with_suffix(".pub").read_text())
    return play(
        "phases",
        host.machine(1, login=login("root", private_key=sealed.read_text(), passphrase="sesame")),
    )


@scenario
def password(host: Loopback) -> Play:
    return play("phases", host.machine(1, login=login("asked", password=PASSWORD)))


@scenario
def refused(host: Loopback) -> Play:
    return play("phases", host.machine(1, port=PEERS["nobody"]), host.machine(2))


@scenario
def silent(host: Loopback) -> Play:
    """Something accepts the connection and never says a word."""
    return play("phases", host.machine(1, port=PEERS["silent"]))


@scenario
def not_ssh(host: Loopback) -> Play:
    return play("phases", host.machine(1, port=PEERS["not_ssh"]))


@scenario
def hangs_up(host: Loopback) -> Play:
    return play("phases", host.machine(1, port=PEERS["hangs_up"]))


@scenario
def no_answer(host: Loopback) -> Play:
    """The queue of connections is full, so that nobody answers at all."""
    return play("phases", host.machine(1, port=PEERS["no_answer"]))


@scenario
def no_network(host: Loopback) -> Play:
    return play("phases", host.machine(1, address="255.255.255.255"))


@scenario
def no_name(host: Loopback) -> Play:
    return play("phases", host.machine(1, address="no-such-host.invalid"))


@scenario
def cut(host: Loopback) -> Play:
    return play("misbehave", host.machine(1), how="cut")


@scenario
def frozen(host: Loopback) -> Play:
    """The network is cut: nothing is closed, nothing arrives any more."""
    return play("misbehave", host.machine(1), how="freeze")


@scenario
def no_python(host: Loopback) -> Play:
    return play("phases", host.machine(1, python="/usr/bin/python9"))


@scenario
def no_shell(host: Loopback) -> Play:
    key = host.private_key
    return play("phases", host.machine(1, login=login("closed", private_key=key, become=False)))


@scenario
def sudo_missing(host: Loopback) -> Play:
    return play("phases", host.machine(1, "bare"))


@scenario
def sudo_wants_password(host: Loopback) -> Play:
    return play("phases", host.machine(1, "asked"))


@scenario
def sudo_wrong_password(host: Loopback) -> Play:
    key = host.private_key
    return play("phases", host.machine(1, login=login("asked", private_key=key, password="no")))


@scenario
def sudo_not_in_sudoers(host: Loopback) -> Play:
    key = host.private_key
    return play(
        "phases", host.machine(1, login=login("tester", private_key=key, password=PASSWORD))
    )


@scenario
def sudo_not_in_sudoers_nor_password(host: Loopback) -> Play:
    return play("phases", host.machine(1, "tester"))


@scenario
def disk_full(host: Loopback) -> Play:
    return play("misbehave", host.machine(1), how="fill", path=str(host.folder / "full" / "more"))


@scenario
def remote_tmp_full(host: Loopback) -> Play:
    return play("remote_tmp", host.machine(1), path=str(host.folder / "full"))


@scenario
def module_crashes(host: Loopback) -> Play:
    return play("misbehave", host.machine(1), how="crash")


@scenario
def module_says_nothing(host: Loopback) -> Play:
    return play("misbehave", host.machine(1), how="silence")


@scenario
def module_killed(host: Loopback) -> Play:
    return play("misbehave", host.machine(1), how="killed")


@scenario
def module_refuses(host: Loopback) -> Play:
    return play(
        "refuse",
        host.machine(1),
        host.machine(2),
        cause="agent_exited",
        reason="agent exited at once with code 3. Look at its log, then retry.",
    )


@scenario
def syntax_error(host: Loopback) -> Play:
    return play("syntax_error", host.machine(1))


# --- Peers that are no sshd -----------------------------------------------------------------

PEERS: dict[str, int] = {}


@contextlib.contextmanager
def peers() -> Iterator[None]:
    """Listeners on 127.0.0.1 that answer in other ways than sshd."""
    with contextlib.ExitStack() as stack:
        silent, full = (stack.enter_context(socket.socket()) for _ in range(2))
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        PEERS["nobody"] = port_of(stack.enter_context(keep_port()))
        PEERS["silent"], PEERS["no_answer"] = silent.getsockname()[1], full.getsockname()[1]
        for name, answer in {"not_ssh": b"HTTP/1.0 400 Bad\r\n\r\n", "hangs_up": b""}.items():
            PEERS[name] = stack.enter_context(answering(answer))
        yield


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """The port of a peer that says this and hangs up."""
    code = (
        "import socket,sys\ns=socket.socket();s.bind(('127.0.0.1',0));s.listen(50)\n"
        "print(s.getsockname()[1],flush=True)\n"
        f"while True:\n c,_=s.accept();c.sendall({answer!r});c.close()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


# --- Recording ------------------------------------------------------------------------------


def record(name: str, host: Loopback) -> None:
    """Play the scenario and write what runner said, without the names of this machine."""
    run = Recorder(SCENARIOS[name](host), Path("/dev/shm/hostler-record"), playbooks=PLAYBOOKS)
    run.raw = []
    folders: list[str] = []
    verdict = run.run(lambda _event: folders.append(str(run._folder)))
    names = {str(CHECKOUT): "/hostler", str(host.folder): "/loopback", socket.gethostname(): "here"}
    names |= dict.fromkeys(folders, "/run/hostler/r1-1-x")
    lines = [_without(names, json.dumps(raw)) for raw in run.raw]
    (RECORDINGS / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{name:36} {verdict.outcome:10} {verdict.failed or verdict.message}")


def _without(names: Mapping[str, str], line: str) -> str:
    for name, instead in sorted(names.items(), key=lambda item: -len(item[0])):
        line = line.replace(name, instead)
    return line


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, loopback(Path(folder)) as host, peers():
        for name in names or SCENARIOS:
            record(name, host)


if __name__ == "__main__":
    main(sys.argv[1:])
