"""Numbers that only grow, and make whoever takes one wait for whoever took the last."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.models.base import insert_missing
from app.models.rows import insert_rows
from app.models.work import Lease


def next_number(session: Session, name: str) -> int:
    """The next number of that name; everybody else who asks waits for our transaction to end."""
    grown = update(Lease).where(Lease.name == name).values(beat=Lease.beat + 1)
    number = session.execute(grown.returning(Lease.beat)).scalar()
    if number is None:
        insert_missing(session, Lease, [{"name": name, "owner": "", "beat": 0}])
        number = session.execute(grown.returning(Lease.beat)).scalar_one()
    return number


def insert_in_order(session: Session, table: type[Any], rows: list[dict[str, Any]]) -> list[int]:
    """Insert rows whose ids the database chooses; the ids, in the rows' order.

    Only for whoever has taken the turn: nobody else adds rows meanwhile, so the new ones are those
    above the last. Thousands of rows cost half of what asking for each id costs.
    """
    last = session.scalar(select(func.max(table.id))) or 0
    insert_rows(session, table, rows)
    ids = session.scalars(select(table.id).where(table.id > last).order_by(table.id)).all()
    assert len(ids) == len(rows), "somebody added rows out of turn"
    return list(ids)


def take_turn(session: Session) -> int:
    """Let one use case at a time open runs, take hosts or give them back, on any database.

    On SQLite it is so anyway. Without it one that frees a host and one that finds it held could
    miss each other. The number is the fence of whoever claims with it.
    """
    return next_number(session, "fence")
