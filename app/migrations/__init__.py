"""The database's history: bring it to what the models say, before anything else runs."""

import importlib
import pkgutil
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData

import app.models
from app.models.base import Base


def upgrade(engine: Engine) -> None:
    """Bring this database to the newest migration, in one transaction where it can be."""
    with engine.begin() as connection:
        command.upgrade(config_for(connection), "head")


def all_tables() -> MetaData:
    """The metadata of every model there is."""
    for module in pkgutil.iter_modules(app.models.__path__):
        importlib.import_module(f"app.models.{module.name}")
    return Base.metadata


def config_for(connection: Connection) -> Config:
    """What Alembic must know; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
