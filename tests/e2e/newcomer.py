"""A machine as a newcomer has it: a plain Debian, and an account that may not become root."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.image import CACHE, build_once, debootstrap, run_quietly

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = "python3,python3-venv,openssh-server,openssh-client,procps,ca-certificates"
ACCOUNT = "newcomer"
# how this machine's own pip finds packages and whom it trusts, where it was told
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip")
TOLD = ("PIP_CERT", "SSL_CERT_FILE", "PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")


def newcomers_root(suite: str) -> Path:
    """The root filesystem of that machine, made once and kept beside the lab's image."""
    recipe = hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]
    path = CACHE / f"newcomer-{suite}-{recipe}"

    def build(place: Path) -> None:
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        debootstrap(suite, PACKAGES, part)
        run_quietly("chroot", str(part), "useradd", "-m", "-s", "/bin/bash", ACCOUNT)
        part.rename(place)

    build_once(path, build)
    return path


def copy_checkout(to: Path) -> None:
    """What git tracks, as a clone would have it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target, follow_symlinks=False)


def run_there(
    suite: str, checkout: Path, command: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a shell command as the newcomer in a copy of the checkout; nothing of it stays.

    The machine shares this one's network and kernel, and nothing else but what pip was told.
    """
    files = [path for path in (*PIP_FILES, *_named_files()) if Path(path).exists()]
    told = {name: os.environ[name] for name in TOLD if name in os.environ}
    machine = [
        *("systemd-nspawn", "-q", "-D", str(newcomers_root(suite)), "--volatile=overlay"),
        *("--as-pid2", "--register=no", "--keep-unit", f"--user={ACCOUNT}"),
        f"--bind-ro={checkout}:/srv/hostler",
        *(f"--bind-ro={path}" for path in dict.fromkeys(files)),
        *(f"--setenv={name}={value}" for name, value in told.items()),
    ]
    story = f"cp -r /srv/hostler ~/hostler && cd ~/hostler && {command}"
    return subprocess.run(
        [*machine, "bash", "-c", story],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def _named_files() -> list[str]:
    """Files and folders that pip's settings name, such as certificates and local packages."""
    shown = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    words = shown.replace("'", " ").replace("file://", " ").split()
    return [word for word in words if word.startswith("/") and Path(word).exists()]
