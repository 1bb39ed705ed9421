"""`./run demo`: a real agent on throw-away hosts; one fails, is mended, and is retried alone."""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import requests

from tests.lab.choice import AnyHost, AnyLab, up
from tests.lab.errors import LabError
from tests.lab.fallback import FallbackHost, FallbackLab

UNIT = "hostler-agent.service"
METRICS_PORT = 9100
READY_SECONDS = 120
PACKAGE_SECONDS = 240  # it may have to be downloaded
STOP_SECONDS = 15
TITLE = "\n\x1b[1m{}\x1b[0m" if sys.stdout.isatty() else "\n== {}"


class DemoError(Exception):
    """The demo did not show what it promises; the message says what was seen instead."""


@dataclass
class Installation:
    """A `hostler up` in a folder of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    clock: Event = field(default_factory=Event)

    @property
    def admin(self) -> dict[str, str]:
        admin: dict[str, str] = json.loads((self.folder / "admin.json").read_text())
        return admin

    def hostler(self, *arguments: str, show: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a person would, and show both it and its answer."""
        if show:
            print(f"$ hostler {' '.join(arguments)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if show:
            print(done.stdout, end="", flush=True)
        return done

    def details(self, job_id: int) -> dict[str, Any]:
        """The job as a program reads it."""
        admin = self.admin
        login = {"bk_app_code": admin["app_code"], "bk_app_secret": admin["app_secret"]}
        answer = requests.post(
            f"{admin['url']}/api/job/{job_id}/details/",
            json={"pagesize": -1},
            headers={"X-Bkapi-Authorization": json.dumps(login)},
            timeout=30,
        ).json()
        data: dict[str, Any] = answer["data"]
        return data

    def wait_until_ready(self) -> None:
        log = self.folder / "up.log"
        deadline = time.monotonic() + READY_SECONDS
        while "hostler is ready" not in log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"hostler up did not become ready:\n{log.read_text()}")
            self.clock.wait(0.1)
        print(log.read_text(), end="", flush=True)

    def wait_for_package(self) -> str:
        """The agent package, as soon as the first start has registered it."""
        deadline = time.monotonic() + PACKAGE_SECONDS
        while not (found := self.hostler("package", "list", show=False).stdout.strip()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "up.log").read_text()
                raise DemoError(f"no agent package was registered:\n{said}")
            self.clock.wait(0.5)
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise DemoError(f"hostler up did not stop within {STOP_SECONDS} s") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave hosts and hostler up")
    parser.add_argument("--hosts", type=int, default=4, metavar="N", help="how many (default: 4)")
    chosen = parser.parse_args()
    if chosen.hosts < 2:
        parser.error("it takes at least 2 hosts: one to break, and one to leave alone")
    try:
        demo(chosen.hosts, chosen.keep)
    except (DemoError, LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def demo(count: int, keep: bool) -> None:
    """The whole story; everything is taken down again unless it shall stay."""
    began = time.monotonic()
    title(f"Booting {count} throw-away hosts")
    with lab_of(count, keep) as lab, installation(lab.hosts[0], keep) as here:
        describe(lab)
        title("Starting Hostler on an empty data folder")
        here.wait_until_ready()
        print(f"agent package: {here.wait_for_package()}")
        play(lab.hosts, here)
        title(f"All of it is true, {time.monotonic() - began:.0f} s after the start")
        if keep:
            tell_how_to_end(lab, here)


def play(hosts: Sequence[AnyHost], here: Installation) -> None:
    """Install, fail on one host, mend, retry, and look on the hosts whether it is so."""
    *others, broken = hosts
    old_login, new_login = login_of(broken, here.folder, "old"), here.folder / "login.new"
    title(f"Breaking {broken.address}: somebody changed its login")
    change_login(broken, new_login)

    title("Installing the agent on all of them")
    names = [f"{host.user}@{host.address}:{host.port}" for host in hosts]
    first = here.hostler("job", "install", *names, *login_option(broken, old_login))
    job_id = 1
    expect(first.returncode == 1, "the install was to fail on the broken host")
    check_details(here, job_id, "PART_FAILED", others, broken)
    before = {host.name: agent_pid(host) for host in others}
    logins = {host.name: len(host.logins()) for host in others}

    title(f"Mending: sending the right login for {broken.address}, and retrying only that host")
    again = here.hostler(
        "job", "retry", str(job_id), "--host", broken.address, *login_option(broken, new_login)
    )
    expect(again.returncode == 0, "the retry was to succeed")
    expect(here.details(job_id)["status"] == "SUCCESS", "the job was to end SUCCESS")

    title("Looking on the hosts themselves")
    for host in hosts:
        look(host)
    for host in others:
        expect(agent_pid(host) == before[host.name], f"{host.address}: the agent was restarted")
        expect(len(host.logins()) == logins[host.name], f"{host.address}: the retry logged in")
    print(f"not retried ({len(others)}): same process as before the retry, and no new login")


def check_details(
    here: Installation, job_id: int, status: str, good: Sequence[AnyHost], bad: AnyHost
) -> None:
    details = here.details(job_id)
    expect(details["status"] == status, f"the job is {details['status']}, not {status}")
    rows = {row["ip"]: row for row in details["list"]}
    for host in good:
        expect(rows[host.address]["status"] == "SUCCESS", f"{host.address}: {rows[host.address]}")
    row = rows[bad.address]
    expect(row["status"] == "FAILED" and row["cause"] == "auth", f"{bad.address}: {row}")
    expect(bool(row["reason"]), f"{bad.address} has no reason")


def look(host: AnyHost) -> None:
    """Whether the agent really runs and answers."""
    pid = agent_pid(host)
    url = f"http://{host.address}:{METRICS_PORT}/metrics"
    metrics = requests.get(url, timeout=10)
    expect(metrics.ok and "node_cpu_seconds_total" in metrics.text, f"{url}: {metrics.status_code}")
    print(f"{host.address}: agent runs as pid {pid}, {url} answers with {len(metrics.text)} bytes")


def agent_pid(host: AnyHost) -> int:
    """The agent's process as the host's own service manager knows it."""
    if isinstance(host, FallbackHost):
        [pidfile] = host.root.rglob("*.pid")
        return int(json.loads(pidfile.read_text())["pid"])
    shown = host.run("systemctl", "show", UNIT, "--property=ActiveState,MainPID").stdout
    state = dict(line.split("=", 1) for line in shown.splitlines())
    expect(state["ActiveState"] == "active", f"{host.address}: {UNIT} is {state['ActiveState']}")
    return int(state["MainPID"])


def login_of(host: AnyHost, folder: Path, name: str) -> Path:
    """A file with what opens this host now: a password, or a key where there is none."""
    path = folder / f"login.{name}"
    secret = Path(host.private_key_file).read_text() if host.password is None else host.password
    write_secret(path, secret)
    return path


def change_login(host: AnyHost, path: Path) -> None:
    """Lock the known login out and write what opens the host instead."""
    if isinstance(host, FallbackHost):
        generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(generate, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(path.with_name(f"{path.name}.pub"), host.folder / "authorized_keys")
    else:
        password = secrets.token_urlsafe(12)
        host.run("chpasswd", input=f"{host.user}:{password}\n")
        write_secret(path, password)


def login_option(host: AnyHost, path: Path) -> tuple[str, str]:
    return ("--key-file" if host.password is None else "--password-file", str(path))


def write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(secret)


@contextmanager
def lab_of(count: int, keep: bool) -> Iterator[AnyLab]:
    lab = up(count, "demo" if keep else f"demo-{os.getpid()}", detached=keep)
    try:
        yield lab
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            lab.down()


@contextmanager
def installation(host: AnyHost, keep: bool) -> Iterator[Installation]:
    """A `hostler up` on free ports with an empty data folder."""
    folder = Path(tempfile.mkdtemp(prefix="hostler-demo-"))
    environment = {
        **os.environ,
        "HOSTLER_DATA_DIR": str(folder),
        "HOSTLER_REMOTE_PYTHON": host.python,
        # whoever has no namespaces may have no sudo either; a stand-in belongs to its user
        "HOSTLER_BECOME": "no" if isinstance(host, FallbackHost) else "yes",
    }
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--package-port", "0"]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    here = Installation(folder, process, environment)
    try:
        yield here
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            here.stop()
            shutil.rmtree(folder)


def describe(lab: AnyLab) -> None:
    if isinstance(lab, FallbackLab):
        print(
            "This machine does not permit namespaces: the hosts are plain sshd processes on "
            "loopback addresses, each with a private root folder and no systemd."
        )
    for host in lab.hosts:
        print(f"{host.name}  {host.user}@{host.address}:{host.port}")


def tell_how_to_end(lab: AnyLab, here: Installation) -> None:
    print(f"It all stays up. Console: {here.admin['url']}/ · login: {here.folder}/admin.json")
    print(f"To end it: kill {here.process.pid}; ./run lab down --name {lab.name}")


def title(text: str) -> None:
    print(TITLE.format(text), flush=True)


def expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise DemoError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
