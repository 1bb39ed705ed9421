"""Get the default agent, Prometheus node_exporter, from the distribution, where there is one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.errors import Unavailable
from app.packages.build import build_package

DEB = "prometheus-node-exporter"
SECONDS = 180
WHAT_TO_ADD = (
    "Get the .deb of prometheus-node-exporter and run `hostler package build FILE.deb` and "
    "`hostler package add PACKAGE.tar.gz`, or add an agent package of your own."
)


class NotToBeHad(Unavailable):
    """The default agent package cannot be had here."""


def fetch_default_package(out: Path) -> Path:
    """Download the .deb by apt and build the package from it; the result is the archive's path."""
    if not shutil.which("apt-get"):
        raise NotToBeHad(f"There is no apt here to get {DEB} with. {WHAT_TO_ADD}")
    with tempfile.TemporaryDirectory(prefix="hostler-package-") as folder:
        return build_package(download_deb(DEB, Path(folder)), out)


def download_deb(name: str, folder: Path) -> Path:
    """Download a package of the distribution to the folder by apt; needs no root."""
    said = _apt(folder, [], "download", name)
    if deb := _found(name, folder):
        return deb
    # no package lists yet, or stale ones: fetch lists of our own, which needs no root
    with _private_state(folder) as options:
        said = _apt(folder, options, "update") or said
        said = _apt(folder, options, "download", name) or said
    if deb := _found(name, folder):
        return deb
    raise NotToBeHad(f"apt could not get {name}: {said}. {WHAT_TO_ADD}")


def _found(name: str, folder: Path) -> Path | None:
    return next(folder.glob(f"{name}_*.deb"), None)


@contextmanager
def _private_state(folder: Path) -> Iterator[list[str]]:
    """apt's lists and caches in a folder of ours; its sources and keys stay the system's."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    yield [
        *("-o", f"Dir::State::lists={folder}/lists"),
        *("-o", f"Dir::Cache={folder}"),
        *("-o", "Dir::Cache::archives=archives"),
        *("-o", "APT::Sandbox::User="),
    ]


def _apt(folder: Path, options: list[str], *command: str) -> str:
    """Run apt-get in the folder; what it complained about, if it did."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", "-q", "-o", "Acquire::Retries=1", *options, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {SECONDS} seconds"
    lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
    return "" if done.returncode == 0 else "; ".join(lines or done.stderr.splitlines()[-1:])
