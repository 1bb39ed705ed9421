"""Stand-ins for lab hosts where namespaces are not permitted: one plain sshd per host.

Each listens on its own loopback address as the current user and announces a private root folder
to its sessions as HOSTLER_ROOT. There is no systemd behind them and no filesystem of their own.
"""

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any, Self

from tests.lab import processes
from tests.lab.errors import LabError

STATE = Path(tempfile.gettempdir()) / f"hostler-lab-{os.geteuid()}"
START_SECONDS = 60
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CONFIG = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys {root}%h/.ssh/authorized_keys
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 500
MaxSessions 500
Subsystem sftp internal-sftp
SetEnv HOSTLER_ROOT={root}
"""


class FallbackHost:
    """An sshd on a loopback address with a folder that plays the host's root filesystem."""

    password = None
    address6 = None

    def __init__(self, lab: "FallbackLab", number: int) -> None:
        self.lab = lab
        self.number = number
        self.name = f"lab{number:03}"
        self.address = f"127.0.1.{number}"
        self.port = lab.port
        self.user = getuser()
        self.python = _python()
        self.private_key_file = str(lab.folder / "key")
        self.folder = lab.folder / self.name
        self.root = self.folder / "root"
        self._sshd: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<FallbackHost {self.name} {self.address}:{self.port}>"

    def describe(self) -> dict[str, Any]:
        """What somebody needs to log in."""
        wanted = ("name", "address", "port", "user", "password", "private_key_file", "python")
        return {name: getattr(self, name) for name in wanted}

    def run(
        self, *argv: str, check: bool = True, input: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a session on this host would, without logging in."""
        done = subprocess.run(
            argv,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            env={"PATH": PROGRAMS, "LANG": "C.UTF-8", "HOSTLER_ROOT": str(self.root)},
            cwd=self.root,
            timeout=timeout,
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{self.name}: {' '.join(argv)[:200]} ended {done.returncode}: {said}")
        return done

    def path(self, path: str) -> Path:
        """Where a path of the host really is."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    def write(self, path: str, text: str) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def exists(self, path: str) -> bool:
        return self.path(path).exists()

    def logins(self) -> list[str]:
        """The ssh logins accepted since the last reset, as sshd logged them."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith("Accepted ")]

    def processes(self) -> list[str]:
        """The command lines of what was started on this host and still runs."""
        found = []
        for pid in sorted(self._pids()):
            with contextlib.suppress(OSError):
                found.append(processes.command_line(pid))
        return found

    def break_key(self) -> None:
        """No key opens this host any more."""
        (self.folder / "authorized_keys").rename(self.folder / "authorized_keys.broken")

    def stop_sshd(self) -> None:
        """Refuse connections; those that are open stay."""
        with contextlib.suppress(FileNotFoundError):
            pid, started = json.loads((self.folder / "sshd").read_text())
            if processes.started_at(pid) == started:
                processes.kill({pid})
            if self._sshd:
                self._sshd.wait()
            (self.folder / "sshd").unlink()

    def heal(self) -> None:
        """Undo every fault; what jobs did to the host stays."""
        broken = self.folder / "authorized_keys.broken"
        if broken.exists():
            broken.rename(self.folder / "authorized_keys")
        if not (self.folder / "sshd").exists():
            self.start()

    def reset(self) -> None:
        """Make the host as good as new."""
        self.heal()
        processes.kill(self._pids())
        shutil.rmtree(self.root)
        self._lay_out()
        os.truncate(self.folder / "log", 0)

    def start(self) -> None:
        """Start the host's sshd and return when it answers."""
        (self.folder / "log").touch()
        with (self.folder / "log").open("ab") as log:
            self._sshd = subprocess.Popen(
                [_sshd(), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        started = processes.started_at(self._sshd.pid)
        (self.folder / "sshd").write_text(json.dumps([self._sshd.pid, started]))
        if not _wait_for_sshd(self._sshd, self.address, self.port):
            log_lines = (self.folder / "log").read_text().strip().splitlines()[-3:]
            raise LabError(f"sshd did not start on {self.address}: {' / '.join(log_lines)}")

    def make(self) -> None:
        """Lay out the host's folder: its keys, its configuration, its empty root."""
        self.folder.mkdir(parents=True)
        _keygen(self.folder / "host_key")
        config = CONFIG.format(
            address=self.address, port=self.port, folder=self.folder, root=self.root
        )
        (self.folder / "sshd_config").write_text(config)
        self._lay_out()

    def stop(self) -> None:
        """End the host's sshd and everything that was started on it."""
        self.stop_sshd()
        processes.kill(self._pids())

    def _lay_out(self) -> None:
        for name in ("opt", "etc", "var/lib", "var/log", "run", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(self.lab.folder / "key.pub", self.folder / "authorized_keys")

    def _pids(self) -> set[int]:
        """What carries this host's root in its environment or runs a file below it."""
        mark = b"HOSTLER_ROOT=" + os.fsencode(self.root)
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    environment = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                    program = Path(os.readlink(f"/proc/{entry}/exe"))
                    if mark in environment or program.is_relative_to(self.root):
                        found.add(int(entry))
        return found


class FallbackLab:
    """Some stand-in hosts that share a login key and a port."""

    bridge_address = "127.0.0.1"

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.folder = STATE / name
        self.hosts: list[FallbackHost] = []
        self._spares = 0

    @classmethod
    def up(cls, count: int, name: str = "test", *, detached: bool = False) -> Self:
        """Start the hosts; unless detached they belong to this process."""
        if reason := can_run_fallback():
            raise LabError(f"Not even plain sshd hosts can run here: {reason}")
        _claim_state_folder()
        clear_leftovers(name)
        lab = cls(name, _free_port(count))
        lab.folder.mkdir(parents=True)
        _keygen(lab.folder / "key")
        owner = None if detached else [os.getpid(), processes.started_at(os.getpid())]
        (lab.folder / "lab.json").write_text(json.dumps({"port": lab.port, "owner": owner}))
        try:
            lab.grow(count)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> Self:
        """The fallback lab of this name that is already up."""
        try:
            said = json.loads((STATE / name / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"There is no lab called {name}.") from None
        lab = cls(name, said["port"])
        numbers = sorted(int(folder.name[3:]) for folder in lab.folder.glob("lab[0-9]*"))
        lab.hosts = [FallbackHost(lab, number) for number in numbers]
        return lab

    def grow(self, count: int) -> None:
        """Start further hosts until there are this many."""
        if count > 200:
            raise LabError(f"Plain sshd hosts have 200 addresses, not {count}.")
        for number in range(len(self.hosts) + 1, count + 1):
            host = FallbackHost(self, number)
            self.hosts.append(host)
            host.make()
            host.start()

    def reset(self, hosts: list[FallbackHost] | None = None) -> None:
        """Make hosts as good as new."""
        for host in self.hosts if hosts is None else hosts:
            host.reset()

    def spare_address(self) -> str:
        """An address with nothing behind it; on loopback it refuses rather than stays silent."""
        self._spares += 1
        return f"127.0.1.{255 - self._spares}"

    def down(self) -> None:
        """End everything that was started and remove its files."""
        for host in self.hosts:
            host.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.hosts = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def can_run_fallback() -> str | None:
    """None when plain sshd hosts can run here, else the reason in one sentence."""
    if not sys.platform.startswith("linux"):
        return "They need Linux."
    shell = pwd.getpwuid(os.geteuid()).pw_shell
    if Path(shell).name in {"nologin", "false"}:
        return f"They log in as this user, whose shell is {shell}."
    missing = [name for name in ("sshd", "ssh-keygen") if not shutil.which(name, path=PROGRAMS)]
    return f"These programs are missing: {', '.join(missing)}." if missing else None


def is_held(name: str) -> bool:
    """Whether a fallback lab belongs to a process that still runs."""
    owner = json.loads((STATE / name / "lab.json").read_text())["owner"]
    return owner is not None and processes.started_at(owner[0]) == owner[1]


def fallback_names() -> list[str]:
    """The fallback labs that are up, or were when their owner died."""
    return sorted(file.parent.name for file in STATE.glob("*/lab.json"))


def clear_leftovers(name: str) -> None:
    """Clear every lab whose owner died without clearing it; refuse a name that is in use."""
    for other in fallback_names():
        owner = json.loads((STATE / other / "lab.json").read_text())["owner"]
        if owner is not None and not is_held(other):
            FallbackLab.attach(other).down()
        elif other == name:
            raise LabError(f"A lab called {name} is up already; `./run lab down` ends it.")


def _claim_state_folder() -> None:
    """Use the folder only if it is ours: anybody may make one of that name in /tmp."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    if STATE.stat().st_uid != os.geteuid() or STATE.is_symlink():
        raise LabError(f"{STATE} belongs to somebody else.")


def _free_port(count: int) -> int:
    """A port that is free on every host's address."""
    for port in _ephemeral_ports():
        if all(_is_free(f"127.0.1.{number}", port) for number in range(1, count + 1)):
            return port
    raise LabError("No port is free on all the hosts' addresses.")


def _ephemeral_ports() -> Iterator[int]:
    for _ in range(20):
        with socket.socket() as probe:
            probe.bind(("127.0.1.1", 0))
            port = probe.getsockname()[1]
        yield port


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _sshd() -> str:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it when it is root
    found = shutil.which("sshd", path=PROGRAMS)
    assert found, "can_run_fallback was asked first"
    return found


def _wait_for_sshd(sshd: subprocess.Popen[bytes], address: str, port: int) -> bool:
    """Whether sshd accepts connections in time; it announces that to nobody."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            sshd.wait(0.01)
            return False
    return False


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _python() -> str:
    """A Python outside any virtual environment, as a real host would have it."""
    system = Path("/usr/bin/python3")
    return str(system if system.exists() else Path(sys.executable).resolve())
