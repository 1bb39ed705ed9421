"""People who sign in, and the lock on guessing."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import ColumnElement, Engine, delete, func, select
from sqlalchemy.orm import Session

from app.access.audit import record
from app.access.caller import Caller, read_role, read_scope
from app.access.passwords import SuccessCache, hash_password
from app.domain.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from app.domain.sentences import say
from app.domain.text import UNSTORABLE
from app.models.access import Audit, User, WebSession
from app.models.base import now, reading, transaction

SIGN_IN = "sign in"
MOST_FAILURES = 20  # for an account from one address
MOST_ANYWHERE = 100  # for an account, or from an address, where it is not known there
KNOWN_FOR = timedelta(days=30)
PER_ACCOUNT = timedelta(minutes=30)
PER_ADDRESS = timedelta(minutes=10)
MIN_PASSWORD = 8
WRONG = "The user name or the password is wrong."
LOCKED = "Too many failed attempts to sign in; try again in {minutes} minutes."

_successes = SuccessCache()


def create_user(
    session: Session,
    name: str,
    password: str,
    role: str = "viewer",
    businesses: Iterable[int] | None = None,
) -> User:
    """A new person; raises InvalidRequest for a bad name or password, Conflict for a known name."""
    if not name or len(name) > 64 or not name.isprintable() or ":" in name:
        raise InvalidRequest(
            "A user name has 1 to 64 printable characters and no colon.", field="name"
        )
    if _find(session, name):
        raise Conflict(f"The user {name} exists already.")
    row = User(
        name=name,
        password_hash=_checked_hash(password),
        role=read_role(role),
        businesses=read_scope(businesses),
    )
    session.add(row)
    session.flush()
    return row


def authenticate_user(
    engine: Engine, name: str, password: str, source_ip: str, at: datetime | None = None
) -> Caller:
    """The person these belong to; failures are written down and lock the account for a while."""
    at = at or now()
    if UNSTORABLE.search(name):
        raise Unauthenticated(WRONG)  # nobody can be called so, and no row could say who tried
    with reading(engine) as session:
        _refuse_guessing(session, name, source_ip, at)
        row = _find(session, name)
    is_right = _successes.is_password(password, row.password_hash if row else _nobody())
    if row is not None and row.is_active and is_right:
        return user_caller(row)
    with transaction(engine) as session:
        record(session, None, SIGN_IN, name, source_ip, "failed", at=at)
    raise Unauthenticated(WRONG)


def user_caller(row: User) -> Caller:
    """What this person may do."""
    scope = None if row.businesses is None else frozenset(row.businesses)
    return Caller(name=row.name, role=read_role(row.role), businesses=scope, kind="user")


def find_user(session: Session, name: str) -> User:
    """The person of that name, or NotFound."""
    row = _find(session, name)
    if row is None:
        raise NotFound(f"There is no user {name}.")
    return row


def list_users(session: Session) -> list[User]:
    """Every person, in the order of their names."""
    return list(session.scalars(select(User).order_by(User.name)))


def change_password(session: Session, name: str, password: str) -> None:
    """Another password; every browser signed in with the old one is signed out."""
    row = find_user(session, name)
    row.password_hash = _checked_hash(password)
    session.execute(delete(WebSession).where(WebSession.user_id == row.id))


def remove_user(session: Session, name: str) -> None:
    """Forget a person; raises NotFound when there is none of that name."""
    session.delete(find_user(session, name))
    session.flush()


def _refuse_guessing(session: Session, name: str, source_ip: str, at: datetime) -> None:
    """Count failures for the account from this address, and for each of them alone.

    Who guesses invented names locks out nobody who has signed in from there before.
    """
    is_name, is_source = Audit.target == name[:255], Audit.source_ip == source_ip[:64]
    limits: list[tuple[ColumnElement[bool], int, timedelta]] = [
        (is_name & is_source, MOST_FAILURES, PER_ACCOUNT)
    ]
    if not _is_known_place(session, name, source_ip, at):
        limits.append((is_name, MOST_ANYWHERE, PER_ACCOUNT))
        limits.append((is_source, MOST_ANYWHERE, PER_ADDRESS))
    for which, most, window in limits:
        failed = select(func.count()).where(
            Audit.action == SIGN_IN, Audit.outcome == "failed", which, Audit.at > at - window
        )
        if (session.scalar(failed) or 0) >= most:
            minutes = int(window / timedelta(minutes=1))
            raise Unauthenticated(say(LOCKED, minutes=minutes), locked=True)


def _is_known_place(session: Session, name: str, source_ip: str, at: datetime) -> bool:
    """Whether this account has signed in from this address lately."""
    done = select(Audit.id).where(
        Audit.action == SIGN_IN,
        Audit.outcome == "done",
        Audit.target == name[:255],
        Audit.source_ip == source_ip[:64],
        Audit.at > at - KNOWN_FOR,
    )
    return session.scalar(done.limit(1)) is not None


@cache
def _nobody() -> str:
    """A hash for unknown names: refusing them takes as long as refusing a wrong password."""
    return hash_password("")


def _checked_hash(password: str) -> str:
    if len(password) < MIN_PASSWORD:
        raise InvalidRequest(
            f"A password has at least {MIN_PASSWORD} characters.", field="password"
        )
    return hash_password(password)


def _find(session: Session, name: str) -> User | None:
    return session.scalar(select(User).where(User.name == name))
