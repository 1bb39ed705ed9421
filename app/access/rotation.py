"""Seal everything again with the newest key."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.access.vault import Vault
from app.models.access import AccessKey, Credential, WireKey, ZoneKey

# Every sealed column there is; its row says what it is sealed for.
SEALED: tuple[InstrumentedAttribute[Any], ...] = (
    Credential.secret,
    ZoneKey.private_key,
    WireKey.private_key,
    AccessKey.secret_key,
)
BATCH = 500


def rotate(session: Session, vault: Vault) -> int:
    """A new key, and every sealed value under it; answers how many."""
    vault.add_key()
    return sum(_reseal(session, vault, column) for column in SEALED)


def _reseal(session: Session, vault: Vault, column: InstrumentedAttribute[Any]) -> int:
    count = 0
    for rows in _batches(session, column):
        stale = [row for row in rows if not vault.is_newest(getattr(row, column.key))]
        count += len(stale)
        if stale:
            session.execute(
                update(column.class_),
                [{"id": row.id, column.key: _sealed_again(vault, row, column)} for row in stale],
            )
        for row in rows:
            session.expunge(row)  # a million rows must not all stay in memory
    return count


def _sealed_again(vault: Vault, row: Any, column: InstrumentedAttribute[Any]) -> bytes:
    return vault.seal(vault.open(getattr(row, column.key), row.purpose), row.purpose)


def _batches(session: Session, column: InstrumentedAttribute[Any]) -> Iterator[list[Any]]:
    table, last = column.class_, 0
    query = select(table).where(column.is_not(None)).order_by(table.id).limit(BATCH)
    while rows := list(session.scalars(query.where(table.id > last))):
        last = rows[-1].id
        yield rows
