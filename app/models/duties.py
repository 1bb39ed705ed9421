"""Rows for what only one process may do, and for what is to be done again and again."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.models.base import insert_missing, now
from app.models.work import Duty, Lease


def find_lease(session: Session, name: str, first: str) -> Lease:
    """The lease of that name; where there is none yet, it goes to the `first` who asks."""
    found = select(Lease).where(Lease.name == name).execution_options(populate_existing=True)
    lease = session.scalars(found).first()
    if lease is None:
        insert_missing(session, Lease, [{"name": name, "owner": first, "beat": 0}])
        lease = session.scalars(found).one()
    return lease


def renew_lease(session: Session, lease: Lease, owner: str) -> bool:
    """Compare and set: two that saw the same owner die do not both win."""
    renewed = (
        update(Lease)
        .where(Lease.name == lease.name, Lease.owner == lease.owner, Lease.beat == lease.beat)
        .values(owner=owner, beat=lease.beat + 1)
        .returning(Lease.name)
        .execution_options(synchronize_session=False)
    )
    return session.execute(renewed).scalar() is not None


def not_due(session: Session) -> Collection[str]:
    """The duties whose time has not come."""
    return set(session.scalars(select(Duty.name).where(Duty.due_at > now())))


def postpone(session: Session, name: str, by: timedelta) -> None:
    """That duty is due again after so long."""
    insert_missing(session, Duty, [{"name": name, "due_at": now()}])
    session.execute(update(Duty).where(Duty.name == name).values(due_at=now() + by))
