"""Write many rows of one table at once.

SQLAlchemy prepares the parameters of an executemany row by row, which costs more than the database
itself does. Here the statement is compiled once, and each column knows how its values are bound;
types, defaults and dialects remain SQLAlchemy's. PostgreSQL takes new rows by COPY, which costs
both sides a third of what as many INSERTs do.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Table, bindparam, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session

Row = dict[str, Any]
Bind = Callable[[Any], Any]


def insert_rows(session: Session, table: type[Any], rows: list[Row]) -> None:
    """Insert these rows, which all name the same columns; the others get their defaults."""
    _write(session, table.__table__, rows, replaces=False)


def store_rows(session: Session, table: type[Any], rows: list[Row]) -> None:
    """Insert these whole rows, each in place of the one with its key."""
    _write(session, table.__table__, rows, replaces=True)


def update_rows(session: Session, table: type[Any], rows: list[Row]) -> None:
    """Give each row of this `id` the other values, which are of the same columns for all."""
    if rows:
        names = tuple(rows[0])
        statement = _compile_update(table.__table__, names, session.get_bind().dialect)
        _execute(session, statement, statement.parameters(rows, {}))


def _write(session: Session, table: Table, rows: list[Row], *, replaces: bool) -> None:
    if not rows:
        return
    defaults = _defaults(table, rows[0])
    names = (*rows[0], *defaults)
    dialect = session.get_bind().dialect
    if dialect.name == "postgresql" and len(rows) > 1 and not replaces:
        statement = _compile_copy(table, names, dialect)
    else:
        statement = _compile(table, names, dialect, replaces)
    _execute(session, statement, statement.parameters(rows, defaults))


def _execute(session: Session, statement: "_Statement", parameters: list[Any]) -> None:
    session.flush()  # as any statement would: rows may refer to what is only pending yet
    session.connection().exec_driver_sql(statement.text, parameters)


def _defaults(table: Table, row: Row) -> Row:
    """What the columns that the rows are silent about hold."""
    silent = (column for column in table.columns if column.key not in row and column.default)
    return {column.key: _value(column.default) for column in silent}


def _value(default: Any) -> Any:
    return default.arg(None) if default.is_callable else default.arg


@dataclass(frozen=True)
class _Statement:
    """A statement as the driver takes it, and how each of its parameters is bound."""

    text: str
    binds: tuple[tuple[str, Bind | None], ...]
    is_positional: bool

    def parameters(self, rows: Sequence[Row], same: Row) -> list[Any]:
        """What each row says, and what is the same for all of them."""
        columns = [
            _bound([same[name]], bind) * len(rows)
            if name in same
            else _bound(map(itemgetter(name), rows), bind)
            for name, bind in self.binds
        ]
        if self.is_positional:
            return list(zip(*columns, strict=True))
        names = [name for name, _ in self.binds]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _bound(values: Iterable[Any], bind: Bind | None) -> list[Any]:
    return list(values if bind is None else map(bind, values))


@lru_cache(maxsize=128)
def _compile(table: Table, names: tuple[str, ...], dialect: Dialect, replaces: bool) -> _Statement:
    statement: Any = (sqlite_insert if dialect.name == "sqlite" else postgresql_insert)(table)
    if replaces:
        new = {column.name: column for column in statement.excluded if not column.primary_key}
        keys = list(table.primary_key)
        statement = statement.on_conflict_do_update(index_elements=keys, set_=new)
    return _prepare(statement.compile(dialect=dialect, column_keys=list(names)), table, names)


@lru_cache(maxsize=128)
def _compile_copy(table: Table, names: tuple[str, ...], dialect: Dialect) -> _Statement:
    quote = dialect.identifier_preparer
    columns = ", ".join(map(quote.quote, names))
    text = f"COPY {quote.format_table(table)} ({columns}) FROM STDIN"
    return _Statement(text, _binds(table, names, dialect), is_positional=True)


@lru_cache(maxsize=32)
def _compile_update(table: Table, names: tuple[str, ...], dialect: Dialect) -> _Statement:
    statement = update(table).where(table.c.id == bindparam("id", type_=table.c.id.type))
    changed = {name: bindparam(name, type_=table.c[name].type) for name in names if name != "id"}
    return _prepare(statement.values(changed).compile(dialect=dialect), table, names)


def _prepare(compiled: Any, table: Table, names: tuple[str, ...]) -> _Statement:
    order = compiled.positiontup if compiled.positional else names
    return _Statement(
        str(compiled), _binds(table, order, compiled.dialect), is_positional=compiled.positional
    )


def _binds(
    table: Table, names: Iterable[str], dialect: Dialect
) -> tuple[tuple[str, Bind | None], ...]:
    return tuple(
        (name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in names
    )
