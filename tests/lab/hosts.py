"""Real hosts, cheap: systemd, sshd, a root filesystem and an address each, in namespaces.

A host is `systemd-nspawn -b` over an overlay of one shared image, in a network namespace on the
lab's own bridge. Traffic goes only to those addresses, and only while the bridge exists.
"""

import contextlib
import fcntl
import json
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tests.lab import processes
from tests.lab.errors import LabError
from tests.lab.image import Image, image, image_path
from tests.lab.network import SLOTS, Network, raise_kernel_limits

STATE = Path(os.environ.get("HOSTLER_LAB_STATE", "/run/hostler-lab"))
BOOT_SECONDS = 120
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

HEAL = """\
set -u
if [ -f /run/lab/filled ]; then
    while read -r mount; do umount -l "$mount"; done </run/lab/filled
    rm /run/lab/filled
fi
if [ -d /usr/lib/lab-python ]; then
    mv /usr/lib/lab-python/* /usr/bin/ && rmdir /usr/lib/lab-python
fi
cmp -s /etc/lab/shadow /etc/shadow || cp -p /etc/lab/shadow /etc/shadow
for home in /root /home/ops /home/nosudo; do
    if [ -e $home/.ssh/authorized_keys.broken ]; then
        mv -f $home/.ssh/authorized_keys.broken $home/.ssh/authorized_keys
    fi
done
systemctl -q is-active ssh || { systemctl -q reset-failed ssh; systemctl start ssh; }
"""

# Files are put back from outside; this is what only the host itself can do.
STOP_AGENTS = """\
systemctl --quiet stop 'hostler*' 2>/dev/null
find /tmp /dev/shm -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' -exec rm -rf {} +
rm -rf /run/hostler* /run/lock/hostler*
"""

# The mark has to be one of the lines that are asked for later: journalctl skips one otherwise.
FORGET = """\
if [ "$1" = reload ]; then systemctl daemon-reload; fi
if [ "$2" = journal ]; then systemctl restart systemd-journald; fi
systemctl reset-failed
mkdir -p /run/lab
journalctl --sync
journalctl --quiet --no-pager --lines 1 --output cat -t sshd -t sshd-session --show-cursor |
    sed -n 's/^-- cursor: //p' >/run/lab/mark
"""

LOGINS = """\
journalctl --sync
mark=$(cat /run/lab/mark 2>/dev/null)
journalctl --quiet --no-pager --output cat -t sshd -t sshd-session ${mark:+--after-cursor="$mark"}
"""

HIDE_PYTHON = "mkdir -p /usr/lib/lab-python && mv /usr/bin/python3* /usr/lib/lab-python/"

BREAK_KEY = """\
for home in /root /home/ops /home/nosudo; do
    [ ! -e $home/.ssh/authorized_keys ] ||
        mv $home/.ssh/authorized_keys $home/.ssh/authorized_keys.broken
done
"""

FILL_DISK = """\
mkdir -p "$1" /run/lab
mount -t tmpfs -o size=64k,mode=755 full "$1"
echo "$1" >>/run/lab/filled
head -c 1M /dev/zero >"$1/.full" 2>/dev/null || true
"""

# Changes with every boot and with every login; says nothing about what a job did.
RESTLESS = ("var/log/", "var/lib/systemd/", "var/tmp/systemd-private-", "etc/machine-id", "run/")


# The nspawn of every host this process booted, by cgroup. A host may outlive its LabHost here.
CHILDREN: dict[str, subprocess.Popen[bytes]] = {}


class LabHost:
    """One machine of the lab: how to reach it, what is on it, and how to break it."""

    port = 22
    user = "root"
    python = "/usr/bin/python3"

    def __init__(self, lab: "Lab", number: int) -> None:
        self.lab = lab
        self.number = number
        self.name = f"lab{number:03}"
        self.address = lab.network.address(number)
        self.address6 = lab.network.address6(number)
        self.password = lab.image.password
        self.private_key_file = str(lab.image.private_key_file)
        self._folder = lab.folder / self.name

    def __repr__(self) -> str:
        return f"<LabHost {self.name} {self.address}>"

    def describe(self) -> dict[str, Any]:
        """What somebody needs to log in."""
        wanted = ("name", "address", "port", "user", "password", "private_key_file", "python")
        return {name: getattr(self, name) for name in wanted}

    # --- looking ------------------------------------------------------------------------------

    def run(
        self, *argv: str, check: bool = True, input: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the host without logging in to it."""
        enter = ["nsenter", f"--target={self._init}", "-m", "-p", "-n", "-u", "-i", "-r", "-w"]
        done = subprocess.run(
            processes.joining(f"{self._cgroup}/visitors", [*enter, *argv]),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            timeout=timeout,
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{self.name}: {' '.join(argv)[:200]} ended {done.returncode}: {said}")
        return done

    def read(self, path: str) -> str:
        return self.run("cat", "--", path).stdout

    def write(self, path: str, text: str) -> None:
        script = 'mkdir -p "$(dirname -- "$1")" && cat >"$1"'
        self.run("sh", "-c", script, "sh", path, input=text)

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path, check=False).returncode == 0

    def logins(self) -> list[str]:
        """The ssh logins accepted since the last reset, as the host's own journal has them."""
        lines = self.run("sh", "-c", LOGINS).stdout.splitlines()
        return [line for line in lines if line.startswith("Accepted ")]

    def processes(self) -> list[str]:
        """The command lines of everything that runs on the host."""
        running = processes.of_host(self._cgroup, self._init)
        return [running[pid] for pid in sorted(running) if running[pid]]

    def changed_files(self) -> dict[str, int]:
        """Every file that differs from the fresh host: path, and when it changed (nanoseconds)."""
        fresh = self._baseline()
        return {
            f"/{path}": stamp for path, stamp in self._upper_files() if fresh.get(path) != stamp
        }

    @property
    def is_alive(self) -> bool:
        with contextlib.suppress(FileNotFoundError, LabError):
            return Path(f"/proc/{self._init}").exists()
        return False

    # --- breaking, and mending ----------------------------------------------------------------

    def cut_network(self) -> None:
        """Pull the host's cable."""
        self.lab.network.set_link(self.number, up=False)

    def restore_network(self) -> None:
        self.lab.network.set_link(self.number, up=True)

    def kill(self) -> None:
        """Power off without warning."""
        # killing nspawn alone would leave the host running: its init goes first
        processes.kill(processes.pids_in(self._cgroup))
        _reap(self._cgroup)
        for name in ("init", "notify"):
            (self._folder / name).unlink(missing_ok=True)

    def start(self) -> None:
        """Power on again; the disk is as it was."""
        if not self.is_alive:
            boot([self])

    def break_password(self) -> None:
        """No password opens this host any more."""
        self.run("sed", "-i", "s/^\\(root\\|ops\\|nosudo\\):[^:]*/\\1:*/", "/etc/shadow")

    def break_key(self) -> None:
        """No key opens this host any more."""
        self.run("sh", "-c", BREAK_KEY)

    def hide_python(self) -> None:
        self.run("sh", "-c", HIDE_PYTHON)

    def fill_disk(self, path: str = "/opt") -> None:
        """Put a small, full filesystem over `path`; what was there comes back when healed."""
        self.run("sh", "-c", FILL_DISK, "sh", path)

    def stop_sshd(self) -> None:
        """Refuse connections; those that are open stay."""
        self.run("systemctl", "stop", "ssh")

    def heal(self) -> None:
        """Undo every fault; what jobs did to the host stays."""
        if not self.is_alive:
            self.kill()
            self.start()
        if not self.lab.network.is_link_up(self.number):
            self.restore_network()
        self.run("sh", "-c", HEAL)

    def reset(self) -> None:
        """Make the host as good as new without a reboot, or boot it anew if it is off."""
        if not self.is_alive:
            self.rebuild()
            return
        try:
            self.heal()
            self.run("sh", "-c", STOP_AGENTS)
            processes.kill(self._strays())
            touched = self._put_files_back()
            reload = "reload" if any("systemd/" in path for path in touched) else ""
            # it reads its configuration when it starts: the next test asks it for logins
            journal = "journal" if any("systemd/journald" in path for path in touched) else ""
            self.run("sh", "-c", FORGET, "sh", reload, journal)
        except (LabError, subprocess.TimeoutExpired) as error:
            print(f"{self.name}: booting it anew, as reset failed: {error}", file=sys.stderr)
            self.rebuild()

    def rebuild(self) -> None:
        """Throw the host's disk away and boot from the image again."""
        self.kill()
        self._unmount()
        shutil.rmtree(self._upper, ignore_errors=True)
        (self._folder / "baseline").unlink(missing_ok=True)
        boot([self])
        if not self.lab.network.is_link_up(self.number):
            self.restore_network()

    def _strays(self) -> set[int]:
        """Whatever a fresh host does not run, sessions included."""
        init = self._init
        running = processes.of_host(self._cgroup, init)
        return {pid for pid in running if pid != init and not _is_part_of_the_system(pid, init)}

    def _put_files_back(self) -> list[str]:
        changed = [path.lstrip("/") for path in self.changed_files()]
        for path in sorted(changed, reverse=True):  # a folder's contents before the folder
            self._put_back(path)
        if changed:
            self._take_baseline()
        return changed

    def _put_back(self, path: str) -> None:
        mine, fresh = self._root / path, self.lab.image.root / path
        if mine.is_dir() and not mine.is_symlink():
            shutil.rmtree(mine)
        else:
            mine.unlink(missing_ok=True)
        if fresh.exists() or fresh.is_symlink():
            mine.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "-T", str(fresh), str(mine)], check=True)

    # --- where things are ---------------------------------------------------------------------

    @property
    def _root(self) -> Path:
        return self._folder / "root"

    @property
    def _upper(self) -> Path:
        return self.lab.disk / self.name

    @property
    def _cgroup(self) -> str:
        return f"{self.lab.cgroup}/{self.name}"

    @property
    def _init(self) -> int:
        """The host's first process, by its id here."""
        try:
            return int((self._folder / "init").read_text())
        except FileNotFoundError:
            raise LabError(f"{self.name} is switched off.") from None

    def _upper_files(self) -> Iterator[tuple[str, int]]:
        """What the host has of its own or has removed, and when that changed."""
        base = self._upper / "upper"
        for folder, folders, files in os.walk(base):
            for name in [*folders, *files]:
                file = Path(folder, name)
                path = str(file.relative_to(base))
                is_folder = name in folders and not file.is_symlink()
                if path.startswith(RESTLESS) or (is_folder and self._is_fresh_folder(path)):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    # a folder's own time changes with its contents, which are listed themselves
                    yield path, 0 if is_folder else file.lstat().st_mtime_ns

    def _is_fresh_folder(self, path: str) -> bool:
        fresh = self.lab.image.root / path
        return fresh.is_dir() and not fresh.is_symlink()

    def _baseline(self) -> dict[str, int]:
        baseline: dict[str, int] = json.loads((self._folder / "baseline").read_text())
        return baseline

    def _take_baseline(self) -> None:
        (self._folder / "baseline").write_text(json.dumps(dict(self._upper_files())))

    # --- booting ------------------------------------------------------------------------------

    def power_on(self) -> socket.socket:
        """Begin to boot; what the host reports about it arrives on the socket."""
        self._mount()
        notify = self._folder / "notify"
        notify.unlink(missing_ok=True)
        reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        reports.bind(str(notify))
        with (self._folder / "console").open("wb") as console:
            CHILDREN[self._cgroup] = subprocess.Popen(
                processes.joining(f"{self._cgroup}/machine", self._nspawn_command()),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT | {"NOTIFY_SOCKET": str(notify)},
                cwd="/",
                start_new_session=True,
            )
        return reports

    def _nspawn_command(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self._root}",
            f"--machine={self.name}",
            f"--network-namespace-path=/run/netns/{self.lab.network.link(self.number)}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--notify-ready=yes",
            "--settings=no",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
        ]

    def _mount(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        if self._root.is_mount():
            return
        for name in ("upper", "work"):
            (self._upper / name).mkdir(parents=True, exist_ok=True)
        layers = f"upperdir={self._upper}/upper,workdir={self._upper}/work"
        _mount("overlay", self._root, f"lowerdir={self.lab.image.root},{layers}")
        (self._root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (self._root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")

    def _unmount(self) -> None:
        if self._root.is_mount():
            _unmount(self._root)

    def hear(self, reports: socket.socket) -> bool:
        """Take in one report; true when the host has booted."""
        said = reports.recv(4096).decode().splitlines()
        for line in said:
            if line.startswith("X_NSPAWN_LEADER_PID="):
                (self._folder / "init").write_text(line.partition("=")[2])
        if "READY=1" not in said:
            return False
        if not (self._folder / "baseline").exists():
            self._take_baseline()
        return True

    def why_not_booted(self) -> str:
        console = (self._folder / "console").read_text(errors="replace").strip().splitlines()
        return f"{self.name} did not boot: {' / '.join(console[-5:]) or 'it said nothing'}"

    def nspawn_handle(self) -> int:
        return os.pidfd_open(CHILDREN[self._cgroup].pid)


def _reap(cgroup: str) -> None:
    if child := CHILDREN.pop(cgroup, None):
        child.wait()


def _is_part_of_the_system(pid: int, init: int) -> bool:
    """Whether this is one of the daemons every host runs, rather than something started on it."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        child_of_init = f"\nPPid:\t{init}\n" in status
        executable = os.readlink(f"/proc/{pid}/exe").rpartition("/")[2]
        listener = executable == "sshd" and "[listener]" in processes.command_line(pid)
        return child_of_init and (executable in {"systemd-journald", "dbus-daemon"} or listener)
    return True  # ended meanwhile


def boot(hosts: list[LabHost]) -> None:
    """Boot hosts side by side and return when each of them says that it is up."""
    waiting = deque(hosts)
    at_once = 6 * (os.cpu_count() or 1)
    with selectors.DefaultSelector() as selector:
        booting: dict[LabHost, tuple[socket.socket, int]] = {}
        while waiting or booting:
            while waiting and len(booting) < at_once:
                host = waiting.popleft()
                reports = host.power_on()
                booting[host] = reports, host.nspawn_handle()
                for source in booting[host]:
                    selector.register(source, selectors.EVENT_READ, host)
            heard = selector.select(BOOT_SECONDS)
            if not heard:
                raise LabError(next(iter(booting)).why_not_booted())
            for key, _ in heard:
                host = key.data
                if host not in booting:
                    continue
                if key.fileobj is not booting[host][0]:
                    raise LabError(host.why_not_booted())
                if host.hear(booting[host][0]):
                    _stop_listening(selector, *booting.pop(host))


def _stop_listening(selector: selectors.BaseSelector, reports: socket.socket, handle: int) -> None:
    selector.unregister(reports)
    selector.unregister(handle)
    reports.close()
    os.close(handle)


class Lab:
    """Some hosts on a bridge of their own. Labs have names and do not meet each other."""

    def __init__(self, name: str, slot: int) -> None:
        self.name = name
        self.network = Network(slot)
        self.folder = STATE / name
        self.disk = self.folder / "disk"
        self.cgroup = f"hostler-lab/{name}"
        self.hosts: list[LabHost] = []
        self._spares = 0

    @cached_property
    def image(self) -> Image:
        return image()

    @property
    def bridge_address(self) -> str:
        """Where hosts find this machine."""
        return self.network.bridge_address

    @classmethod
    def up(cls, count: int, name: str = "test", *, detached: bool = False) -> Self:
        """Boot a lab; unless detached it belongs to this process and may be cleared after it."""
        if not re.fullmatch(r"[A-Za-z0-9-]{1,32}", name):
            raise LabError(f"A lab's name is letters, digits and dashes, not {name!r}.")
        if reason := can_run_lab():
            raise LabError(f"The lab cannot run here: {reason}")
        raise_kernel_limits()
        with _state_lock():
            _clear_leftovers(name)
            lab = cls(name, _free_slot())
            lab._claim(detached)
        try:
            lab.network.create()
            _mount("tmpfs", lab.disk, "mode=755,size=80%")
            lab.grow(count)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> Self:
        """The lab of this name that is already up."""
        try:
            said = json.loads((STATE / name / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"There is no lab called {name}.") from None
        lab = cls(name, said["slot"])
        numbers = sorted(int(folder.name[3:]) for folder in lab.folder.glob("lab[0-9]*"))
        lab.hosts = [LabHost(lab, number) for number in numbers]
        return lab

    def grow(self, count: int) -> None:
        """Boot further hosts until there are this many."""
        new = [LabHost(self, number) for number in range(len(self.hosts) + 1, count + 1)]
        for host in new:
            self.network.plug(host.number)
        self.network.require_routes([host.address for host in new])
        boot(new)
        self.hosts += new

    def reset(self, hosts: list[LabHost] | None = None) -> None:
        """Reset hosts side by side."""
        chosen = self.hosts if hosts is None else hosts
        self.network.require_routes([host.address for host in chosen])
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(LabHost.reset, chosen))

    def spare_address(self) -> str:
        """An address on the bridge with nothing behind it; each call gives another."""
        self._spares += 1
        return self.network.spare_address(self._spares)

    def down(self) -> None:
        """End everything the lab started and take its network, mounts and files away."""
        for _ in range(3):  # a host that was just booting may add processes while we look
            if not (pids := processes.pids_in(self.cgroup)):
                break
            processes.kill(pids)
        for cgroup in [key for key in CHILDREN if key.startswith(f"{self.cgroup}/")]:
            _reap(cgroup)
        for mount in reversed(_mounts_below(self.folder)):
            _unmount(mount)
        self.network.remove()
        processes.remove_cgroup(self.cgroup)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.hosts = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _claim(self, detached: bool) -> None:
        self.disk.mkdir(parents=True)
        self.folder.chmod(0o755)
        owner = None if detached else [os.getpid(), processes.started_at(os.getpid())]
        said = {"slot": self.network.slot, "owner": owner}
        (self.folder / "lab.json").write_text(json.dumps(said))


def is_held(name: str) -> bool:
    """Whether a lab belongs to a process that still runs."""
    owner = json.loads((STATE / name / "lab.json").read_text())["owner"]
    return owner is not None and processes.started_at(owner[0]) == owner[1]


def lab_names() -> list[str]:
    """The labs that are up, or were when their owner died."""
    return sorted(file.parent.name for file in STATE.glob("*/lab.json"))


def can_run_lab() -> str | None:
    """None when lab hosts can run on this machine, else the reason in one sentence."""
    if os.environ.get("HOSTLER_LAB") == "fallback":
        return "HOSTLER_LAB=fallback asks for plain sshd processes."
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "Lab hosts need Linux and root."
    needed = ["systemd-nspawn", "nsenter", "ip", "mount", "ssh-keygen"]
    if not image_path().is_dir():
        needed.append("debootstrap")
    if missing := [name for name in needed if not shutil.which(name, path=ENVIRONMENT["PATH"])]:
        return f"These programs are missing: {', '.join(missing)}."
    if not processes.hierarchies() or not os.access(processes.hierarchies()[0], os.W_OK):
        return "The cgroup hierarchy is not writable here."
    return _why_no_namespaces()


def _why_no_namespaces() -> str | None:
    """Do in a throwaway namespace what a host needs, and report what the kernel refuses."""
    attempt = """
        mount -t tmpfs none /mnt && mkdir /mnt/lower /mnt/upper /mnt/work /mnt/root &&
        mount -t overlay overlay /mnt/root \
            -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work &&
        ip link add hlab type bridge && ip link add hlab-0 type veth peer name host0
    """
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", attempt],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or ["no reason given"]
    return f"Namespaces are not permitted here: {said[-1]}."


@contextmanager
def _state_lock() -> Iterator[None]:
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_leftovers(name: str) -> None:
    """Clear the lab of this name, and every lab whose owner died without clearing it."""
    for other in lab_names():
        owner = json.loads((STATE / other / "lab.json").read_text())["owner"]
        if owner is not None and not is_held(other):
            Lab.attach(other).down()
        elif other == name:
            whose = f"by process {owner[0]}" if owner else "until `./run lab down`"
            raise LabError(f"A lab called {name} is up already, held {whose}.")


def _free_slot() -> int:
    used = {json.loads((STATE / name / "lab.json").read_text())["slot"] for name in lab_names()}
    for slot in range(SLOTS):
        if slot not in used and not Network(slot).is_taken():
            return slot
    raise LabError("Every network a lab could have is taken; `./run lab down --all` frees them.")


def _mounts_below(folder: Path) -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4]) for line in lines]
    return [point for point in points if point.is_relative_to(folder)]


def _mount(kind: str, point: Path, options: str) -> None:
    point.mkdir(parents=True, exist_ok=True)
    _mount_tool("mount", "-t", kind, "-o", options, "hostler-lab", str(point))


def _unmount(point: Path) -> None:
    """Detach at once: a killed host's last mounts go when the kernel has put it away."""
    _mount_tool("umount", "--lazy", str(point))


def _mount_tool(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
