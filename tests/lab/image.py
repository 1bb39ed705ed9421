"""Build, once per machine, the root filesystem every lab host starts from."""

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

PACKAGES = "openssh-server,python3,python3-apt,systemd,systemd-sysv,dbus,iproute2,procps,curl,sudo"
SUITE = os.environ.get("HOSTLER_LAB_SUITE", "bookworm")
CACHE = Path(os.environ.get("HOSTLER_LAB_CACHE", "/var/cache/hostler-lab"))

SSHD = """\
PermitRootLogin yes
PasswordAuthentication yes
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 500
MaxSessions 500
"""

JOURNALD = """\
[Journal]
Storage=volatile
RateLimitIntervalSec=0
"""

# Three people: root, one who may become root, one who may not. What a host does not need for
# being managed is masked, so that hundreds boot on a laptop.
RECIPE = """\
set -eu
useradd -m -s /bin/bash ops
useradd -m -s /bin/bash nosudo
echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops
chmod 440 /etc/sudoers.d/ops
sed -i '/pam_motd/d; /pam_mail/d' /etc/pam.d/sshd
sed -i 's/pam_unix.so nullok/pam_unix.so nullok nodelay/' /etc/pam.d/common-auth
systemctl --quiet mask systemd-logind systemd-update-utmp systemd-update-utmp-runlevel \
    systemd-machine-id-commit systemd-random-seed systemd-firstboot systemd-pstore \
    systemd-journal-flush systemd-binfmt systemd-ask-password-wall.path \
    systemd-ask-password-console.path getty.target console-getty getty-static e2scrub_reap \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    systemd-tmpfiles-clean.timer sys-fs-fuse-connections.mount dev-hugepages.mount \
    dev-mqueue.mount proc-sys-fs-binfmt_misc.automount
systemctl --quiet set-default multi-user.target
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc /usr/share/man \
    /usr/share/locale /etc/hostname /etc/resolv.conf
for home in /root /home/ops /home/nosudo; do
    mkdir -p -m 700 $home/.ssh
    cp /etc/lab/authorized_keys $home/.ssh/authorized_keys
    chmod 600 $home/.ssh/authorized_keys
    chown -R --reference=$home $home/.ssh
done
"""


@dataclass(frozen=True)
class Image:
    """A root filesystem on disk, and the logins that open every host booted from it."""

    root: Path
    private_key_file: Path
    password: str


def image_path() -> Path:
    """Where this recipe's image is cached; another recipe has another place."""
    recipe = "\0".join((SUITE, PACKAGES, SSHD, JOURNALD, RECIPE))
    return CACHE / f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def image() -> Image:
    """The image of this recipe, built now if this machine has none yet."""
    path = image_path()
    build_once(path, _build)
    password = (path / "password").read_text().strip()
    return Image(path / "root", path / "key", password)


def build_once(path: Path, build: Callable[[Path], None]) -> None:
    """Build what this place of the cache holds, unless somebody did; two at once build it once."""
    if not path.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            if not path.is_dir():
                build(path)


def debootstrap(suite: str, packages: str, root: Path) -> None:
    """Lay out a minimal Debian of this suite with these packages."""
    include = f"--include={packages}"
    run_quietly("debootstrap", "--variant=minbase", include, suite, str(root), _mirror(suite))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(path: Path) -> None:
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    root = part / "root"
    debootstrap(SUITE, PACKAGES, root)
    run_quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(part / "key"))
    (part / "password").write_text(secrets.token_urlsafe(12))
    (part / "password").chmod(0o600)
    _configure(root, (part / "key.pub").read_text(), (part / "password").read_text())
    part.rename(path)


def _configure(root: Path, public_key: str, password: str) -> None:
    lab = root / "etc/lab"
    lab.mkdir()
    (lab / "authorized_keys").write_text(public_key)
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(SSHD)
    journald = root / "etc/systemd/journald.conf.d"
    journald.mkdir()
    (journald / "lab.conf").write_text(JOURNALD)
    run_quietly("chroot", str(root), "sh", "-c", RECIPE)
    logins = "".join(f"{user}:{password}\n" for user in ("root", "ops", "nosudo"))
    # a cheap hash: what a login costs a host is not what is measured here
    run_quietly("chroot", str(root), "chpasswd", "-c", "SHA512", "-s", "1000", stdin=logins)
    shutil.copy2(root / "etc/shadow", lab / "shadow")


def _mirror(suite: str) -> str:
    """Where this machine gets its own packages from, if it is a Debian of the same suite."""
    if mirror := os.environ.get("HOSTLER_LAB_MIRROR"):
        return mirror
    try:
        targets = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        targets = ""
    own = [line.split() for line in targets.splitlines()]
    same = [uri for name, component, uri in own if (name, component) == (suite, "main")]
    return same[0] if same else "http://deb.debian.org/debian"


def run_quietly(*argv: str, stdin: str | None = None) -> None:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    proxies = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "no_proxy")}
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, env=environment | proxies
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise LabError(f"Building the lab image failed at {argv[0]}: {' / '.join(said)}")
