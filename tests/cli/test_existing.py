"""What is there at a start belongs together, or is refused in one sentence and left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from app.models.base import open_database
from app.settings import Settings
from tests.jobs.conftest import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of an installation with a sealed secret in it."""
    folder = prepare(tmp_path / "data")
    engine = open_database(Settings(data_dir=folder).database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0003')"))
        columns = "(zone_id, public_key, private_key, created_at)"
        connection.execute(text(f"INSERT INTO zone_key {columns} VALUES (0, 'k', 'k', '2026')"))
    engine.dispose()
    return folder


def start(folder: Path, **named: str) -> str:
    """What a start that is refused says; it has to end by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "up", "--port", "0", "--package-port", "0"],
        env=os.environ | {"HOSTLER_DATA_DIR": str(folder)} | named,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_a_database_without_its_key_file_is_refused(folder: Path) -> None:
    (folder / "keys").unlink()

    assert "but not its key file" in start(folder)
    assert not (folder / "keys").exists()


def test_a_database_of_a_newer_version_is_refused(folder: Path) -> None:
    engine = open_database(Settings(data_dir=folder).database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    assert "is at version 9999, which this Hostler does not know" in start(folder)


@pytest.mark.parametrize("content", [b"this is no database at all, but text" * 100, b"\0" * 8192])
def test_what_is_no_database_is_refused_and_left_alone(folder: Path, content: bytes) -> None:
    path = folder / "hostler.sqlite3"
    for leftover in folder.glob("hostler.sqlite3-*"):
        leftover.unlink()
    path.write_bytes(content)

    assert "is damaged or is none" in start(folder)
    assert path.read_bytes() == content


def test_a_database_that_is_not_utf8_is_refused(tmp_path: Path, postgres: str) -> None:
    engine = open_database(postgres).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for encoding in ("SQL_ASCII", "LATIN1"):
            options = f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
            connection.execute(text(f"CREATE DATABASE odd_{encoding.lower()} {options}"))
    try:
        for encoding in ("SQL_ASCII", "LATIN1"):
            url = postgres.replace("/postgres?", f"/odd_{encoding.lower()}?")
            said = start(tmp_path / "data", HOSTLER_DATABASE_URL=url)
            assert f"keeps text as {encoding}" in said
    finally:
        with engine.connect() as connection:
            for encoding in ("sql_ascii", "latin1"):
                connection.execute(text(f"DROP DATABASE odd_{encoding}"))
        engine.dispose()


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    said = start(tmp_path / "data", HOSTLER_WORKRES="3")

    assert "There is no setting HOSTLER_WORKRES; did you mean HOSTLER_WORKERS?" in said
