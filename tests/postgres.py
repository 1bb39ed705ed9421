"""A throw-away PostgreSQL, on a unix socket of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError


def find_programs() -> Path | None:
    """The folder of the newest PostgreSQL server installed here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="hostler-pg-") as folder:
        if user:
            shutil.chown(folder, user, user)
        data = Path(folder, "data")
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "hostler", "-N"],
            check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "", "-F"],
            user=user, cwd=folder, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield wait_for(f"postgresql+psycopg://hostler@/postgres?host={folder}", server)
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for whoever is still connected
            server.wait(60)


@pytest.fixture
def empty_database(postgres: str) -> str:
    """The URL of a database of one's own in the throw-away server."""
    server = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS own"))
        connection.execute(text("CREATE DATABASE own"))
    server.dispose()
    return postgres.replace("/postgres?", "/own?")


def wait_for(url: str, server: subprocess.Popen[bytes]) -> str:
    """The same URL, once the server answers on it."""
    engine = create_engine(url)
    try:
        while server.poll() is None:
            try:
                engine.connect().close()
            except OperationalError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.1)
            else:
                return url
        raise RuntimeError(f"PostgreSQL ended with {server.returncode}")
    finally:
        engine.dispose()
