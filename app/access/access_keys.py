"""Access key pairs of users: an AK names, its SK signs."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.caller import Caller
from app.access.signature import MAX_CLOCK_DIFFERENCE, SignedRequest, is_recent, is_signed
from app.access.users import find_user, user_caller
from app.access.vault import Vault
from app.domain.errors import NotFound, Unauthenticated
from app.models.access import AccessKey, User
from app.models.base import now


@dataclass(frozen=True)
class NewAccessKey:
    """A fresh pair; the secret half is shown this once."""

    access_key: str
    secret_key: str = field(repr=False)


def create_access_key(session: Session, vault: Vault, user_name: str) -> NewAccessKey:
    """A new pair for this user; only here is its secret half in clear."""
    user = find_user(session, user_name)
    pair = NewAccessKey(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
    row = AccessKey(user_id=user.id, access_key=pair.access_key)
    row.secret_key = vault.seal(pair.secret_key.encode(), row.purpose)
    session.add(row)
    session.flush()
    return pair


def authenticate_signature(
    session: Session,
    vault: Vault,
    access_key: str,
    signature: str,
    request: SignedRequest,
    at: datetime | None = None,
) -> Caller:
    """The user who signed this request, a short while ago."""
    if not is_recent(request.date, at or now()):
        minutes = MAX_CLOCK_DIFFERENCE.seconds // 60
        raise Unauthenticated(
            f"The Date header must be there and within {minutes} minutes of our clock."
        )
    row, user = _find(session, access_key)
    if row is None or user is None or not user.is_active:
        raise Unauthenticated("The access key is not known here.")
    if not is_signed(request, vault.open(row.secret_key, row.purpose).decode(), signature):
        raise Unauthenticated("The signature does not fit this request.")
    return user_caller(user)


def list_access_keys(session: Session, user_name: str) -> list[AccessKey]:
    """The user's pairs, without their secrets; raises NotFound for an unknown user."""
    user = find_user(session, user_name)
    return list(session.scalars(select(AccessKey).where(AccessKey.user_id == user.id)))


def remove_access_key(session: Session, access_key: str) -> None:
    """End a pair at once; raises NotFound when there is none of that name."""
    row, _ = _find(session, access_key)
    if row is None:
        raise NotFound(f"There is no access key {access_key}.")
    session.delete(row)
    session.flush()


def _find(session: Session, access_key: str) -> tuple[AccessKey | None, User | None]:
    row = session.scalar(select(AccessKey).where(AccessKey.access_key == access_key))
    return row, session.get(User, row.user_id) if row else None
