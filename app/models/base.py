"""What every table shares: the metadata, the column types and the transaction."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    DateTime,
    Engine,
    Integer,
    MetaData,
    bindparam,
    create_engine,
    event,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import JSON, TypeDecorator

from app.domain.errors import InvalidRequest

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# A connection may lie idle for hours; one that a firewall has dropped is to be noticed in seconds.
KEPT_ALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}

# 64 bits wide on PostgreSQL too: callers ask for any number, logs and packages may be large. SQLite
# has but one width, and gives a primary key its numbers only under this name.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")

P = ParamSpec("P")
R = TypeVar("R")
ATTEMPTS = 4
GIVEN_UP = ("40P01", "40001")  # PostgreSQL: deadlock detected, could not serialise


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, UTC in every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is UTC:
            return value
        if value.tzinfo is None:
            raise ValueError("A moment needs its zone.")
        return value.astimezone(UTC)

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """On SQLite as the text its own type would write, but by one call instead of a format."""
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)

        def as_text(value: datetime | None) -> str | None:
            if value is None:
                return None
            if value.tzinfo is not UTC:
                return as_text(self.process_bind_param(value, dialect))
            return value.isoformat(" ", "microseconds")[:-6]

        return as_text

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[Any], datetime | None] | None:
        """The same back."""
        if dialect.name != "sqlite":
            return super().result_processor(dialect, coltype)
        return lambda text: datetime.fromisoformat(text + "+00:00") if text else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The root of all rows."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {
        int: NUMBER,
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
    }


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


NO_DATABASE = (
    "HOSTLER_DATABASE_URL is no address of a database, like postgresql+psycopg://user@host/name."
)


def open_database(url: str, *, set_up: bool = True) -> Engine:
    """An engine whose transactions behave alike on SQLite and PostgreSQL (design.md §8).

    Without `set_up` a connection only looks: it changes nothing in a SQLite file.
    """
    # an error's text ends up in logs: what the rows hold does not belong there
    is_sqlite = url.startswith("sqlite")
    try:
        engine = create_engine(
            url,
            pool_pre_ping=not is_sqlite,
            hide_parameters=True,
            connect_args={} if is_sqlite else KEPT_ALIVE | {"client_encoding": "utf8"},
        )
    except (ArgumentError, ImportError):
        raise InvalidRequest(NO_DATABASE) from None  # their own words may repeat a password
    if engine.dialect.name == "sqlite" and set_up:
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", _begin_immediate)
    elif engine.dialect.name != "sqlite":
        event.listen(engine, "do_executemany", _copy)
    return engine


def _set_pragmas(connection: Any, _record: Any) -> None:
    # sqlite3 would otherwise begin transactions of its own, too late for our locks
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=15000",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    # a reader asks for DEFERRED by an execution option: readers never wait for the writer
    deferred = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN DEFERRED" if deferred else "BEGIN IMMEDIATE")


def _copy(cursor: Any, statement: str, rows: Sequence[Sequence[Any]], _context: Any) -> bool:
    """Send the rows of a COPY as a stream, which the driver does not do by itself."""
    if not statement.startswith("COPY "):
        return False
    with cursor.copy(statement) as stream:
        for row in rows:
            stream.write_row(row)
    return True


def insert_missing(session: Session, table: type[Any], rows: list[dict[str, Any]]) -> None:
    """Insert those of these rows whose keys are not there yet."""
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    if rows:
        session.execute(insert(table).on_conflict_do_nothing(), rows)


def among(column: Any, numbers: Iterable[int]) -> ColumnElement[bool]:
    """Whether the column is one of these, of which there may be any number.

    They are written into the statement: databases limit how many parameters it may have.
    """
    wanted: BindParameter[Any] = bindparam(
        None, sorted(numbers), expanding=True, literal_execute=True
    )
    found: ColumnElement[bool] = column.in_(wanted)
    return found


def chunks(values: Iterable[Any], size: int = 5000) -> Iterator[list[Any]]:
    """The values in lists short enough for one statement."""
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One unit of writing: everything in it is durable together, or none of it happened.

    On a connection that is in a transaction already it is a savepoint of that one.
    """
    with _session(engine) as session, session.begin():
        yield session


def _session(engine: Engine) -> Session:
    return Session(engine, expire_on_commit=False, join_transaction_mode="create_savepoint")


def again_on_deadlock(use_case: Callable[P, R]) -> Callable[P, R]:
    """Do a use case again when the database gave up on it in favour of another.

    Nothing of it was written, and nobody was told: that comes after the commit.
    """

    @wraps(use_case)
    def insist(*arguments: P.args, **named: P.kwargs) -> R:
        for _ in range(ATTEMPTS - 1):
            try:
                return use_case(*arguments, **named)
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in GIVEN_UP:
                    raise
        return use_case(*arguments, **named)

    return insist


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A consistent look that never waits for a writer; nothing is written."""
    with _session(engine.execution_options(read_only=True)) as session:
        yield session
