"""A database file, a listener on a real socket, and packages to put into them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from app.access.vault import Vault
from app.migrations import upgrade
from app.models.base import open_database, transaction
from app.packages.serve import create_package_listener
from app.settings import Settings
from tests.packages.agents import a_package


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    Vault(settings.key_file)
    return settings


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.database)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as session:
        yield session


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return a_package(tmp_path / "built")


@pytest.fixture
def listener(settings: Settings, engine: Engine) -> Iterator[str]:
    """The package listener's base URL."""
    application = create_package_listener(settings)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
    application.close()
