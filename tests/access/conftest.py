"""A real database file and a real key file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.access.vault import Vault
from app.models import access, fleet
from app.models.base import Base, open_database, transaction

TABLES = [
    Base.metadata.tables[row.__tablename__]
    for row in (
        access.Credential,
        access.ZoneKey,
        access.WireKey,
        access.App,
        access.User,
        access.AccessKey,
        access.WebSession,
        access.Audit,
        fleet.Business,
        fleet.AccessPoint,
        fleet.Zone,
        fleet.Host,
    )
]


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    return tmp_path / "hostler.db"


@pytest.fixture
def engine(database_file: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{database_file}")
    Base.metadata.create_all(engine, tables=TABLES)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as session:
        yield session


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "keys")
