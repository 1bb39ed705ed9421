"""Access key pairs of users: an AK names, its SK signs."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.caller import Caller
from app.access.signature import (
    MAX_CLOCK_DIFFERENCE,
    SignedRequest,
    is_recent,
    is_signed,
    read_date,
)
from app.access.users import find_user, user_caller
from app.access.vault import Vault
from app.domain.errors import InvalidRequest, NotFound, Unauthenticated
from app.domain.sentences import say
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
    *,
    own_hosts: Iterable[str] = (),
) -> Caller:
    """The user who signed this request, a short while ago.

    A proxy may have written another name into Host: a signature over one of our own fits as well.
    """
    if request.date and read_date(request.date) is None:
        raise InvalidRequest(say("The Date header is not a date."), field="Date")
    if not is_recent(request.date, at or now()):
        minutes = MAX_CLOCK_DIFFERENCE.seconds // 60
        raise Unauthenticated(
            f"The Date header must be there and within {minutes} minutes of our clock."
        )
    row, user = _find(session, access_key)
    if row is None or user is None or not user.is_active:
        raise Unauthenticated("The access key is not known here.")
    secret_key = vault.open(row.secret_key, row.purpose).decode()
    hosts = list(dict.fromkeys((request.host, *own_hosts)))
    if not any(is_signed(replace(request, host=host), secret_key, signature) for host in hosts):
        raise Unauthenticated(
            say(
                "The signature does not fit this request, which reached us for the host {hosts}. "
                "Behind a proxy, set HOSTLER_SITE_URL to the address that clients sign.",
                hosts=" or ".join(hosts),
            )
        )
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
