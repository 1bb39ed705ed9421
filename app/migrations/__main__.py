"""Write a migration from what the models now say: python -m app.migrations <number> <message>."""

import sys
import tempfile
from pathlib import Path

from alembic import command

from app.migrations import config_for
from app.models.base import open_database


def write_migration(number: str, message: str) -> None:
    """Compare a database of yesterday with the models of today, and write down the difference."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_database(f"sqlite:///{Path(folder) / 'yesterday.sqlite3'}").begin() as connection,
    ):
        config = config_for(connection)
        command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True, rev_id=number)


if __name__ == "__main__":
    write_migration(sys.argv[1], sys.argv[2])
