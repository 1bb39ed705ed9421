"""What every use case needs at hand."""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from app.access.vault import Vault
from app.models.base import open_database, reading, transaction
from app.models.duties import INSTALLATION, installation_id
from app.models.work import Lease
from app.private import private_folder
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
    private_folder(settings.data_dir, "HOSTLER_DATA_DIR")
    engine = open_database(settings.database)
    return Context(
        engine=engine,
        settings=settings,
        vault=Vault(settings.key_file),
        queue=WorkQueue(settings.redis, partial(_installation, engine)),
    )


def _installation(engine: Engine) -> str:
    """The installation's id; whoever asks first makes it."""
    with reading(engine) as session:
        known = session.get(Lease, INSTALLATION)
    if known:
        return known.owner
    with transaction(engine) as session:
        return installation_id(session)
