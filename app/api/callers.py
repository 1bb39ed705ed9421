"""Who calls, shown by a password, a signature or a browser's session."""

import base64
import binascii
from urllib.parse import parse_qsl, urlsplit

from flask import request

from app.access.access_keys import authenticate_signature
from app.access.caller import Caller
from app.access.signature import SCHEME, SignedRequest, read_authorization
from app.access.users import authenticate_user
from app.access.web_sessions import is_csrf_token, session_caller
from app.api.origin import may_change
from app.domain.errors import Forbidden, Unauthenticated
from app.jobs.context import Context
from app.models.base import now, reading

COOKIE = "hostler_session"
CSRF_HEADERS = ("X-CSRF-Token", "X-XSRF-TOKEN")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
DATE_HEADERS = ("Date", "x-ocp-date")  # a browser may not set the first
NO_CREDENTIALS = "Sign in: with a user's password, a signature, or the console's session."


class NotFromHere(Forbidden):
    """A change asked for with the console's session needs its CSRF value in X-CSRF-Token."""


class FromElsewhere(Forbidden):
    """A page of another site may not ask for changes with a password the browser remembers."""


class WrongPassword(Unauthenticated):
    """The user name or the password is wrong."""


def find_caller(ctx: Context) -> Caller:
    """The user behind this request, or Unauthenticated."""
    said = request.headers.get("Authorization", "")
    scheme = said.partition(" ")[0]
    if scheme.lower() == "basic":
        return _by_password(ctx, said)
    if scheme == SCHEME:
        return _by_signature(ctx, said)
    if request.cookies.get(COOKIE):
        return by_session(ctx)
    raise Unauthenticated(NO_CREDENTIALS)


def by_session(ctx: Context) -> Caller:
    """Whoever this browser is signed in as; a change must prove that one of our pages asks."""
    token = request.cookies.get(COOKIE, "")
    with reading(ctx.engine) as session:
        caller = session_caller(session, token, now())
    given = next((value for name in CSRF_HEADERS if (value := request.headers.get(name))), "")
    if request.method not in SAFE and not is_csrf_token(token, given):
        raise NotFromHere
    return caller


def _by_password(ctx: Context, said: str) -> Caller:
    if request.method not in SAFE and not may_change():
        raise FromElsewhere
    try:
        text = base64.b64decode(said.partition(" ")[2].strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Unauthenticated("The Authorization header is not what Basic says.") from None
    name, _, password = text.partition(":")
    try:
        return authenticate_user(ctx.engine, name, password, request.remote_addr or "")
    except Unauthenticated as error:
        raise WrongPassword(error.message, **error.details) from None


def _by_signature(ctx: Context, said: str) -> Caller:
    pair = read_authorization(said)
    if pair is None:
        raise Unauthenticated(f"The Authorization header must be: {SCHEME} <AK>:<signature>.")
    with reading(ctx.engine) as session:
        own = (urlsplit(ctx.settings.site).netloc,)
        return authenticate_signature(session, ctx.vault, *pair, _signed_request(), own_hosts=own)


def _signed_request() -> SignedRequest:
    """The request as it was sent: a proxy's or our own rewriting must not change what is signed."""
    raw = str(request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path)
    target = raw.partition("?")[0]
    if "://" in target:  # the absolute form a proxy sends
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return SignedRequest(
        method=request.method,
        path=target,
        host=request.headers.get("Host", ""),
        date=next((v for name in DATE_HEADERS if (v := request.headers.get(name))), ""),
        content_type=request.headers.get("Content-Type", ""),
        body=request.get_data(),
        headers=list(request.headers.items()),
        query=parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True),
    )
