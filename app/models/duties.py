"""Rows for what only one process may do, and for what is to be done again and again."""

import uuid
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.models.base import insert_missing, now
from app.models.work import Duty, Lease

INSTALLATION = "installation"


def find_lease(session: Session, name: str) -> Lease | None:
    """The lease of that name; None while nobody has ever had it."""
    return session.get(Lease, name)


def open_lease(session: Session, name: str) -> Lease:
    """A lease that nobody has yet; or, when somebody was quicker, theirs."""
    insert_missing(session, Lease, [{"name": name, "owner": "", "beat": 0}])
    return session.get_one(Lease, name)


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


def is_due(session: Session, name: str, every: timedelta) -> bool:
    """Whether that duty's time has come.

    One that is put off for longer than it ever is was put off by a clock that was ahead of ours.
    """
    at = now()
    put_off = select(Duty.name).where(
        Duty.name == name, Duty.due_at > at, Duty.due_at <= at + every
    )
    return session.scalar(put_off) is None


def postpone(session: Session, name: str, by: timedelta) -> None:
    """That duty is due again after so long."""
    insert_missing(session, Duty, [{"name": name, "due_at": now()}])
    session.execute(update(Duty).where(Duty.name == name).values(due_at=now() + by))


def installation_id(session: Session) -> str:
    """What tells this installation's numbers from another's, on hosts and in Redis."""
    known = session.get(Lease, INSTALLATION)
    if known is None:
        insert_missing(session, Lease, [{"name": INSTALLATION, "owner": uuid.uuid4().hex}])
        known = session.get_one(Lease, INSTALLATION)
    return known.owner
