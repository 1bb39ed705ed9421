"""Whether work can be accepted: the database and the queue answer."""

from collections.abc import Mapping

from flask import Response, jsonify
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.api.dialect import context
from app.domain.errors import Unavailable
from app.jobs.context import Context
from app.models.base import reading


def check(ctx: Context) -> dict[str, str]:
    """What we depend on, each with what is wrong with it; empty: it answers."""
    return {"database": _database(ctx), "redis": _redis(ctx)}


def status(checks: Mapping[str, str]) -> int:
    """The HTTP status that says it: 200 when everything answers, else 503."""
    return 503 if any(checks.values()) else 200


def healthz() -> tuple[Response, int]:
    """GET /healthz: 200 when work can be accepted, else 503 and what does not answer."""
    checks = check(context())
    code = status(checks)
    answer = {"status": "ok" if code == 200 else "unavailable"}
    return jsonify({**answer, **{name: text or "ok" for name, text in checks.items()}}), code


def _database(ctx: Context) -> str:
    try:
        with reading(ctx.engine) as session:
            session.execute(text("SELECT 1 FROM zone LIMIT 1"))
    except SQLAlchemyError as error:
        return f"the database does not answer: {type(error).__name__}"
    return ""


def _redis(ctx: Context) -> str:
    try:
        ctx.queue.check()
    except Unavailable as error:
        return error.message
    return ""
