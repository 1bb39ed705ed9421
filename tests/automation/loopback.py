"""A throwaway sshd on 127.0.0.1 with accounts of its own, seen by nobody else on this machine.

Its /etc/passwd, /etc/shadow and /etc/sudoers exist only in its mount namespace.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.automation.inventory import Login, Machine
from tests.ports import keep_port, port_of

PASSWORD = "correct horse"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")

ACCOUNTS = {  # name: login shell
    "tester": "/bin/sh",  # may not use sudo
    "asked": "/bin/sh",  # sudo asks for the password
    "trusted": "/bin/sh",  # sudo asks for nothing
    "bare": "/bin/sh",  # has no sudo on its path
    "closed": "/usr/sbin/nologin",
}

SSHD_CONFIG = """
    Port {port}
    ListenAddress 127.0.0.1
    ListenAddress ::1
    HostKey {folder}/host_key
    AuthorizedKeysFile {folder}/authorized_keys
    PermitRootLogin yes
    PasswordAuthentication yes
    KbdInteractiveAuthentication no
    UsePAM no
    StrictModes no
    MaxStartups 200
    PidFile none
    LogLevel ERROR
    Match User bare
        SetEnv PATH=/nowhere
"""

SUDOERS = """
    root ALL=(ALL:ALL) ALL
    asked ALL=(ALL:ALL) ALL
    trusted ALL=(ALL:ALL) NOPASSWD: ALL
"""

START = """
    set -e
    for name in passwd shadow sudoers; do
        [ ! -e /etc/$name ] || mount --bind "$1/$name" /etc/$name
    done
    mkdir "$1/full"
    mount -t tmpfs -o size=4k,mode=1777 tmpfs "$1/full"
    head -c 4096 /dev/zero >"$1/full/filler"
    exec "$2" -D -e -f "$1/sshd_config"
"""


@dataclass(frozen=True)
class Loopback:
    """Where the sshd listens, and the key every account accepts."""

    folder: Path
    port: int
    private_key: str
    pid: int

    def machine(self, host_id: int, account: str = "root", **changes: object) -> Machine:
        """One more host, all of them this one."""
        login = Login(account=account, private_key=self.private_key, become=account != "root")
        values: dict[str, object] = {"address": "127.0.0.1", "port": self.port, "login": login}
        return Machine(host_id=host_id, **(values | changes))  # type: ignore[arg-type]


def why_not() -> str | None:
    """Why there can be no such sshd here, if so."""
    if os.geteuid() != 0:
        return "a throwaway sshd with accounts of its own needs root"
    if not SSHD:
        return "openssh-server is not installed"
    allowed = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return None if allowed.returncode == 0 else "mount namespaces are not allowed here"


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """Start the sshd; it is gone at the end, and so are its sessions."""
    os.chmod(folder, 0o755)
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks itself up before a login
    with keep_port() as keeper:
        yield from _serve(folder, port_of(keeper))


def _serve(folder: Path, port: int) -> Iterator[Loopback]:
    assert SSHD
    private_key = _write_files(folder, port)
    command = ["unshare", "--mount", "sh", "-c", textwrap.dedent(START), "sh", str(folder), SSHD]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_it_listens(process, port, folder / "log")
        yield Loopback(folder, port, private_key, process.pid)
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def descendants(pid: int) -> list[int]:
    """Every living process below this one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit():
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(stat[1]), []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _write_files(folder: Path, port: int) -> str:
    make_key(folder / "host_key")
    private_key = make_key(folder / "user_key")
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    for path in folder.iterdir():
        os.chmod(path, 0o600)
    os.chmod(folder / "authorized_keys", 0o644)
    (folder / "sshd_config").write_text(
        textwrap.dedent(SSHD_CONFIG).format(port=port, folder=folder)
    )
    (folder / "sudoers").write_text(textwrap.dedent(SUDOERS))
    os.chmod(folder / "sudoers", 0o440)
    passwd = Path("/etc/passwd").read_text()
    shadow = Path("/etc/shadow").read_text()
    hashed = _run("openssl", "passwd", "-6", PASSWORD).strip()
    for uid, (name, shell) in enumerate(ACCOUNTS.items(), start=47110):
        passwd += f"{name}:x:{uid}:{uid}:{name}:/tmp:{shell}\n"
        shadow += f"{name}:{hashed}:19000:0:99999:7:::\n"
    (folder / "passwd").write_text(passwd)
    os.chmod(folder / "passwd", 0o644)
    (folder / "shadow").write_text(shadow)
    os.chmod(folder / "shadow", 0o640)
    return private_key


def make_key(path: Path, passphrase: str = "") -> str:
    """A new private key."""
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path))
    return path.read_text()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as peer:
            if peer.recv(4) == b"SSH-":
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            break
    raise RuntimeError(f"sshd did not start: {log.read_text()}")
