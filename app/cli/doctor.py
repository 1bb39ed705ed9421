"""hostler doctor: is everything here that is needed, and what to do where it is not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from app.access.vault import Vault, VaultError
from app.cli.existing import CannotGoOn, check_existing
from app.domain.errors import Unavailable
from app.migrations import config_for
from app.models.base import open_database, reading
from app.packages.list import list_packages
from app.queue import WorkQueue
from app.settings import Settings

ANSIBLE_CORE, ANSIBLE_RUNNER = "2.19.14", "2.4.3"  # what our reading of events was tested with
LEAST_TMPFS_MIB = 64
TMPFS = "tmpfs"


class Advice(Exception):
    """What a person should do."""


@dataclass(frozen=True)
class Check:
    """One thing to look at; `look` says what it found, or raises Advice."""

    name: str
    look: Callable[[Settings], str]


@click.command()
def doctor() -> None:
    """Check this installation; exit code 1 when something needs doing."""
    settings = Settings.from_env()
    healthy = [_show(check, settings) for check in CHECKS]
    if not all(healthy):
        raise SystemExit(1)


def _show(check: Check, settings: Settings) -> bool:
    try:
        click.echo(f"{click.style('ok', fg='green')}    {check.name}: {check.look(settings)}")
    except Advice as advice:
        click.echo(f"{click.style('to do', fg='red')} {check.name}: {advice}")
        return False
    return True


def _data_dir(settings: Settings) -> str:
    folder = settings.data_dir
    if not folder.is_dir():
        raise Advice(f"{folder} is not there; `hostler up` makes it, or name it by --data-dir.")
    if not os.access(folder, os.W_OK):
        raise Advice(f"{folder} cannot be written; give it to the user hostler runs as.")
    if folder.stat().st_mode & 0o077:
        raise Advice(f"{folder} is open to other users; run: chmod 700 {folder}")
    free = shutil.disk_usage(folder).free >> 20
    if free < 500:
        raise Advice(f"{folder} has only {free} MiB left; make room before the database stops.")
    return f"{folder}, {free} MiB free"


def _database(settings: Settings) -> str:
    if not settings.database_url and not (settings.data_dir / "hostler.sqlite3").exists():
        raise Advice("there is none yet; `hostler up` makes it.")
    try:
        check_existing(settings)
    except (CannotGoOn, Unavailable) as error:
        raise Advice(error.message) from error
    engine = open_database(settings.database)
    try:
        with engine.connect() as connection:
            newest = ScriptDirectory.from_config(config_for(connection)).get_current_head()
            current = MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise Advice(f"it does not answer ({error}); is HOSTLER_DATABASE_URL right?") from error
    finally:
        engine.dispose()
    if current != newest:
        raise Advice(
            f"it is at {current}, the code at {newest}; `hostler up` brings it up to date."
        )
    return f"{engine.dialect.name}, at {current}"


def _redis(settings: Settings) -> str:
    try:
        queue = WorkQueue(settings.redis)
        queue.check()
        return f"version {queue.connection.info('server')['redis_version']}"
    except Unavailable as error:
        where = "is HOSTLER_REDIS_URL right?" if settings.redis_url else "is `hostler up` running?"
        raise Advice(f"it does not answer; {where}") from error


def _ansible(_settings: Settings) -> str:
    found = {name: version(name) for name in ("ansible-core", "ansible-runner")}
    wanted = {"ansible-core": ANSIBLE_CORE, "ansible-runner": ANSIBLE_RUNNER}
    if found != wanted:
        raise Advice(f"found {_versions(found)}, tested with {_versions(wanted)}; run ./run setup.")
    playbook = Path(sys.executable).with_name("ansible-playbook")
    if not playbook.exists():
        raise Advice(f"{playbook} is not there; run ./run setup.")
    return _versions(found)


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in packages.items())


def _ssh(_settings: Settings) -> str:
    ssh = shutil.which("ssh")
    if not ssh:
        raise Advice("there is no ssh; install it (Debian: apt-get install openssh-client).")
    return subprocess.run([ssh, "-V"], capture_output=True, text=True, check=True).stderr.strip()


def _keys(settings: Settings) -> str:
    if not settings.key_file.exists():
        raise Advice(f"{settings.key_file} is not there; `hostler up` makes it, or bring the copy.")
    try:
        Vault(settings.key_file)
    except (VaultError, OSError) as error:
        raise Advice(f"{settings.key_file}: {error}") from error
    if settings.key_file.stat().st_mode & 0o077:
        raise Advice(f"others can read it; run: chmod 600 {settings.key_file}")
    return f"{settings.key_file} (keep a copy apart from the database's)"


def _run_dir(settings: Settings) -> str:
    folder = settings.run_dir
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise Advice(f"{folder} cannot be written; name a tmpfs by HOSTLER_RUN_DIR.")
    if _filesystem_of(folder) != TMPFS:
        raise Advice(
            f"{folder} is on a disk, where logins leave traces; name a tmpfs by HOSTLER_RUN_DIR."
        )
    free = shutil.disk_usage(folder).free >> 20
    if free < LEAST_TMPFS_MIB:
        raise Advice(f"{folder} has only {free} MiB left; give it {LEAST_TMPFS_MIB} MiB or more.")
    return f"{folder}, {free} MiB free"


def _filesystem_of(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    return max(above, key=lambda mount: len(mount[0]))[1]


def _package(settings: Settings) -> str:
    if not settings.database_url and not (settings.data_dir / "hostler.sqlite3").exists():
        raise Advice("there is no database yet; `hostler up` makes it.")
    engine = open_database(settings.database)
    try:
        with reading(engine) as session:
            agents = [row for row in list_packages(session) if row.kind == "agent"]
            found = [f"{row.name} {row.version} ({row.cpu})" for row in agents]
    except SQLAlchemyError as error:
        raise Advice("the database does not answer; see above.") from error
    finally:
        engine.dispose()
    if not found:
        raise Advice(
            "none, so nothing can be installed; run: hostler package add-default, or "
            "hostler package build FOLDER and hostler package add FILE"
        )
    return ", ".join(found)


CHECKS = (
    Check("data folder", _data_dir),
    Check("key file", _keys),
    Check("database", _database),
    Check("Redis", _redis),
    Check("Ansible", _ansible),
    Check("SSH", _ssh),
    Check("private folders of runs", _run_dir),
    Check("agent package", _package),
)
