"""What every use case needs at hand."""

from dataclasses import dataclass

from sqlalchemy import Engine

from app.access.vault import Vault
from app.models.base import open_database
from app.queue import WorkQueue
from app.settings import Settings


@dataclass(frozen=True)
class Context:
    """The database, the settings, the keys and the queue of this installation."""

    engine: Engine
    settings: Settings
    vault: Vault
    queue: WorkQueue


def open_context(settings: Settings) -> Context:
    """Open what the settings name; nothing is connected before it is used."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Context(
        engine=open_database(settings.database),
        settings=settings,
        vault=Vault(settings.key_file),
        queue=WorkQueue(settings.redis),
    )
