"""Signed-in browsers: a random cookie, and a second value a foreign page cannot know."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from app.access.caller import Caller
from app.access.users import find_user, user_caller
from app.domain.errors import Unauthenticated
from app.models.access import User, WebSession

LIFETIME = timedelta(hours=12)
SIGN_IN_FIRST = "Sign in first: there is no session, or it has ended."


@dataclass(frozen=True, kw_only=True)
class OpenedSession:
    """What the browser gets: `token` as an HttpOnly cookie, `csrf_token` to send back in forms."""

    token: str = field(repr=False)
    csrf_token: str = field(repr=False)
    expires_at: datetime


def open_session(
    session: Session,
    user_name: str,
    source_ip: str,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> OpenedSession:
    """A browser that just showed the right password."""
    token = secrets.token_urlsafe(32)
    row = WebSession(
        token_hash=_hash(token),
        user_id=find_user(session, user_name).id,
        source_ip=source_ip[:64],
        created_at=now,
        expires_at=now + lifetime,
    )
    session.add(row)
    session.flush()
    return OpenedSession(token=token, csrf_token=csrf_token(token), expires_at=row.expires_at)


def session_caller(session: Session, token: str, now: datetime) -> Caller:
    """Whose browser this is."""
    user = session.scalar(
        select(User)
        .join(WebSession, WebSession.user_id == User.id)
        .where(WebSession.token_hash == _hash(token), WebSession.expires_at > now, User.is_active)
    )
    if user is None:
        raise Unauthenticated(SIGN_IN_FIRST)
    return user_caller(user)


def close_session(session: Session, token: str) -> None:
    """Sign this browser out; an unknown token is no matter."""
    session.execute(delete(WebSession).where(WebSession.token_hash == _hash(token)))


def has_ended_sessions(session: Session, now: datetime) -> bool:
    """Whether the time of some session is over."""
    ended = select(WebSession.expires_at).where(WebSession.expires_at <= now)
    return session.scalar(ended.limit(1)) is not None


def delete_ended_sessions(session: Session, now: datetime) -> int:
    """Forget the sessions whose time is over; answers how many."""
    result = session.execute(delete(WebSession).where(WebSession.expires_at <= now))
    assert isinstance(result, CursorResult)
    return result.rowcount


def csrf_token(token: str) -> str:
    """The session's second value; only who knows the cookie can work it out."""
    digest = hmac.digest(token.encode(), b"csrf", "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_csrf_token(token: str, given: str) -> bool:
    """Whether this is the second value of that session, compared in constant time."""
    return hmac.compare_digest(csrf_token(token).encode(), given.encode(errors="replace"))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
