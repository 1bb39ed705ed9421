"""Programs that call us, and their secrets."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.access.caller import Caller, read_role, read_scope
from app.domain.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from app.models.access import App

MIN_SECRET = 16  # we keep a plain hash: that is safe for random secrets only
WRONG = "The app code or its secret is wrong."
NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


def create_app(
    session: Session,
    code: str,
    role: str = "operator",
    businesses: Iterable[int] | None = None,
    secret: str | None = None,
) -> str:
    """A new program; answers its secret, which is shown this once."""
    if not code or len(code) > 64 or not code.isprintable():
        raise InvalidRequest("An app code has 1 to 64 printable characters.", field="code")
    if _find(session, code):
        raise Conflict(f"The app {code} exists already.")
    secret = _checked(secret)
    session.add(
        App(
            code=code,
            secret_hash=_hash(secret),
            role=read_role(role),
            businesses=read_scope(businesses),
        )
    )
    session.flush()
    return secret


def authenticate_app(
    session: Session, code: str, secret: str, acting_for: str | None = None
) -> Caller:
    """The program these belong to; `acting_for` only says for whom it asks."""
    row = _find(session, code)
    is_right = hmac.compare_digest(_hash(secret), row.secret_hash if row else NOBODY)
    if row is None or not is_right or not row.is_active:
        raise Unauthenticated(WRONG)
    return replace(_caller(row), acting_for=acting_for or None)


def list_apps(session: Session) -> list[App]:
    """Every program, in the order of their codes."""
    return list(session.scalars(select(App).order_by(App.code)))


def find_app(session: Session, code: str) -> App:
    """The program of that code; raises NotFound when there is none."""
    row = _find(session, code)
    if row is None:
        raise NotFound(f"There is no app {code}.")
    return row


def renew_app_secret(session: Session, code: str, secret: str | None = None) -> str:
    """Another secret for a program; the old one ends at once."""
    secret = _checked(secret)
    find_app(session, code).secret_hash = _hash(secret)
    session.flush()
    return secret


def remove_app(session: Session, code: str) -> None:
    """Forget a program and its secret; raises NotFound when there is none of that code."""
    find_app(session, code)
    session.execute(delete(App).where(App.code == code))


def _caller(row: App) -> Caller:
    scope = None if row.businesses is None else frozenset(row.businesses)
    return Caller(name=row.code, role=read_role(row.role), businesses=scope, kind="app")


def _checked(secret: str | None) -> str:
    if secret is None:
        return secrets.token_urlsafe(32)
    if len(secret) < MIN_SECRET:
        raise InvalidRequest(
            f"An app secret is random and has at least {MIN_SECRET} characters; "
            "leave it out and one is made.",
            field="secret",
        )
    return secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _find(session: Session, code: str) -> App | None:
    return session.scalar(select(App).where(App.code == code))
