"""Who calls, in the node manager's way of saying so, and the trail each change leaves."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import g, request
from sqlalchemy.exc import SQLAlchemyError

from app.access import audit
from app.access.apps import authenticate_app
from app.access.caller import Caller, Role, require
from app.api.dialect import language, refuse_unstorable
from app.domain.commands import Idempotency
from app.domain.errors import HostlerError, InvalidRequest, Unauthenticated
from app.jobs.context import Context
from app.jobs.once import do_once
from app.log import log
from app.models.base import reading, transaction

HEADER = "X-Bkapi-Authorization"
IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_KEY = 128
REPEATABLE = {
    "in": "header",
    "name": IDEMPOTENCY_KEY,
    "schema": {"type": "string", "maxLength": MAX_KEY},
    "description": "Within a day the same request under the same key is done once and answered "
    "alike; another request under it is refused. Passwords and keys are not compared.",
}
MAX_ACTOR = 64


class NoCredentials(Unauthenticated):
    """Send bk_app_code and bk_app_secret: in X-Bkapi-Authorization, in the body or the query."""


@dataclass
class Call:
    """One authenticated request, and what the audit shall say of it."""

    ctx: Context
    caller: Caller
    parameters: Mapping[str, Any]
    language: str
    target: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def actor(self) -> str:
        return self.caller.actor[:MAX_ACTOR]

    def note(self, target: str, **details: Any) -> None:
        """Say what this call is about, for the audit."""
        self.target = target
        self.details.update(details)

    def once(self, view: Callable[[], Any]) -> Any:
        """What the view answers; under one Idempotency-Key it acts once and answers alike."""
        asked = self._idempotency()
        if asked is None:
            return view()

        def deed(ctx: Context) -> dict[str, Any]:
            self.ctx = ctx
            answer = view()
            return {"target": self.target, "data": answer}

        known, is_repeated = do_once(self.ctx, asked, deed)
        if is_repeated:
            self.note(known["target"], repeated=True)
        return known["data"]

    def _idempotency(self) -> Idempotency | None:
        """The caller's promise that a repeated request is the same one, if it made one."""
        key = request.headers.get(IDEMPOTENCY_KEY, "")
        if not key:
            return None
        if len(key) > MAX_KEY or not key.isprintable():
            raise InvalidRequest(
                f"{IDEMPOTENCY_KEY} takes up to {MAX_KEY} printable characters.",
                field=IDEMPOTENCY_KEY,
            )
        owner = f"{self.caller.kind} {self.caller.name}"
        return Idempotency(owner=owner, key=key, fingerprint=self._fingerprint())

    def _fingerprint(self) -> str:
        # secrets are left out: a ciphertext differs each time, and a hash of a password tells
        asked = _without_secrets({"path": request.path, **self.parameters})
        text = json.dumps(asked, sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        # what a condition calls its key is the name of a field
        return {
            k: v if k == "conditions" else _without_secrets(v)
            for k, v in value.items()
            if k not in audit.SECRET_NAMES
        }
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def open_call(ctx: Context, parameters: Mapping[str, Any], role: Role) -> Call:
    """The caller behind this request, who must have that role."""
    caller = identify(ctx, parameters)
    g.caller = caller
    require(caller, role)
    return Call(ctx, caller, parameters, language())


def identify(ctx: Context, parameters: Mapping[str, Any]) -> Caller:
    """The program that calls, and the user it names (contracts/nodeman.md §7)."""
    said = {**parameters, **_header()}
    code, secret = said.get("bk_app_code"), said.get("bk_app_secret")
    if not (isinstance(code, str) and isinstance(secret, str) and code and secret):
        raise NoCredentials
    user = said.get("bk_username")
    with reading(ctx.engine) as session:
        return authenticate_app(session, code, secret, user if isinstance(user, str) else None)


def _header() -> dict[str, Any]:
    text = _as_utf8(request.headers.get(HEADER, ""))
    if not text:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Unauthenticated(f"{HEADER} must hold a JSON object.")
    refuse_unstorable(said, HEADER)
    return said


def _as_utf8(text: str) -> str:
    """A header's text as it was sent: WSGI hands over its bytes as if they were Latin-1."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


@contextmanager
def audited(ctx: Context, action: str) -> Iterator[list[Call]]:
    """Write down what came of a change; the block puts its call in the list once it has one."""
    calls: list[Call] = []
    try:
        yield calls
    except HostlerError as error:
        _write(ctx, action, calls, "refused", {"error": type(error).__name__})
        raise
    except Exception as error:
        _write(ctx, action, calls, "failed", {"error": type(error).__name__})
        raise
    _write(ctx, action, calls, "done", {})


def _write(
    ctx: Context, action: str, calls: list[Call], outcome: audit.Outcome, more: dict[str, Any]
) -> None:
    if g.get("caller") is None:
        return  # a stranger could fill the database with rows
    call = calls[0] if calls else None
    details = {"request_id": g.get("request_id", ""), **(call.details if call else {}), **more}
    try:
        with transaction(ctx.engine) as session:
            audit.record(
                session,
                g.get("caller"),
                action,
                call.target if call else "",
                request.remote_addr or "",
                outcome,
                details,
            )
    except SQLAlchemyError as error:
        # the change itself is done or refused already; its answer must not be lost over this
        log.error("The audit row was not written", action="audit_failed", error=str(error))
