"""Who did what, from where, when, and what came of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.access.caller import Caller
from app.access.redact import MARK
from app.models.access import Audit
from app.models.base import now

Outcome = Literal["done", "refused", "failed"]

# A detail of such a name is never written, whatever it holds.
SECRET_NAMES = frozenset(
    {"password", "key", "secret", "token", "passphrase", "private_key", "secret_key"}
    | {"app_secret", "bk_app_secret", "bk_token", "tcoa_ticket", "authorization", "cookie"}
)


def record(
    session: Session,
    caller: Caller | None,
    action: str,
    target: str,
    source_ip: str,
    outcome: Outcome,
    details: Mapping[str, Any] | None = None,
    *,
    at: datetime | None = None,
) -> None:
    """Keep a row of what someone did or tried; no caller means nobody we know."""
    session.add(
        Audit(
            at=at or now(),
            caller=caller.name if caller else "",
            caller_kind=caller.kind if caller else "",
            acting_for=caller.acting_for[:255] if caller and caller.acting_for else None,
            action=action,
            target=target[:255],
            source_ip=source_ip[:64],
            outcome=outcome,
            details=_without_secrets(dict(details or {})),
        )
    )


def _without_secrets(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: MARK if str(key).lower() in SECRET_NAMES else _without_secrets(item)
                for key, item in value.items()
            }
        case list() | tuple():
            return [_without_secrets(item) for item in value]
        case _:
            return value
