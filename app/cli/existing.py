"""Look at what is there before the start: a database that cannot be gone on with is refused."""

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from app.domain.errors import Conflict, Unavailable
from app.domain.sentences import say
from app.migrations import config_for
from app.models.base import open_database
from app.settings import Settings

SEALED = ("zone_key", "wire_key", "credential", "access_key")  # tables with sealed columns


class CannotGoOn(Conflict):
    """What is there does not belong together, or is not of this version; nothing was changed."""


def check_existing(settings: Settings) -> None:
    """Refuse, as CannotGoOn or Unavailable, before anything is written."""
    if not settings.database_url and not (settings.data_dir / "hostler.sqlite3").exists():
        return
    engine = open_database(settings.database, set_up=False)
    try:
        with engine.connect() as connection:
            _check_encoding(connection)
            _check_version(connection)
            _check_keys(connection, settings)
    except OperationalError as error:
        raise Unavailable(
            say("The database does not answer: {why}.", why=_first_line(error))
        ) from None
    except DatabaseError as error:
        where = (settings.database_url and "HOSTLER_DATABASE_URL") or f"{settings.data_dir}"
        raise CannotGoOn(
            say(
                "The database ({where}) is damaged or is none: {why}. Bring back a copy of it.",
                where=where,
                why=_first_line(error),
            )
        ) from None
    finally:
        engine.dispose()


def _first_line(error: DatabaseError) -> str:
    return (str(error.orig).strip().splitlines() or ["no reason was given"])[0][:300]


def _check_encoding(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise CannotGoOn(
            say(
                "The database keeps text as {encoding}, which cannot hold every language. Create it"
                " anew with ENCODING 'UTF8'.",
                encoding=encoding,
            )
        )


def _check_version(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return
    known = {script.revision for script in _scripts(connection).walk_revisions()}
    if current not in known:
        raise CannotGoOn(
            say(
                "The database is at version {current}, which this Hostler does not know: a newer"
                " one has written it. Start that one, or bring back the copy from before.",
                current=current,
            )
        )


def _check_keys(connection: Connection, settings: Settings) -> None:
    if settings.key_file.exists():
        return
    there = set(inspect(connection).get_table_names()) & set(SEALED)
    sealed = [
        table
        for table in sorted(there)
        if connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).first()  # noqa: S608 - ours
    ]
    if sealed:
        raise CannotGoOn(
            say(
                "There is a database with sealed secrets, but not its key file {file}. Bring the"
                " copy of the file; without it the secrets cannot be read.",
                file=settings.key_file,
            )
        )


def _scripts(connection: Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(config_for(connection))
