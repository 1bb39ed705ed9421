"""Signed requests: what is signed, and with what (AK/SK, HMAC-SHA1)."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

SCHEME = "OCP-ACCESS-KEY-HMACSHA1"
HEADER_PREFIX = "x-ocp-"
MAX_CLOCK_DIFFERENCE = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class SignedRequest:
    """The parts of a request a signature covers, as they were sent."""

    method: str
    path: str  # as sent, without the query
    host: str  # with the port
    date: str
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()  # all; only x-ocp-… are signed
    query: Iterable[tuple[str, str]] = ()  # decoded, in the order sent


def sign(secret_key: str, text: str) -> str:
    """The signature of that text, as the wire carries it."""
    return base64.b64encode(hmac.digest(secret_key.encode(), text.encode(), "sha1")).decode()


def is_signed(request: SignedRequest, secret_key: str, signature: str) -> bool:
    """Whether this signature was made over this request with this key."""
    given = signature.encode(errors="replace")
    texts = (string_to_sign(request), string_to_sign(request, comma=","))
    return any(hmac.compare_digest(sign(secret_key, text).encode(), given) for text in texts)


def is_recent(date: str, now: datetime) -> bool:
    """Whether the Date header (RFC 1123, GMT) is close enough to our clock."""
    moment = read_date(date)
    return moment is not None and abs(now - moment) <= MAX_CLOCK_DIFFERENCE


def read_date(date: str) -> datetime | None:
    """The moment a Date header names, in UTC; None when it names none."""
    try:
        moment = parsedate_to_datetime(date)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (
        ValueError,
        OverflowError,
        TypeError,
    ):  # no date, or beyond the calendar
        return None


def string_to_sign(request: SignedRequest, comma: str = "%2C") -> str:
    """Seven parts, one per line, empty ones kept.

    Repeated parameters are joined by a comma; clients differ in whether they encode that comma.
    """
    return "\n".join(
        (
            request.method.upper(),
            _md5(request.body),
            request.content_type,
            request.date,
            request.host,
            _headers(request.headers),
            request.path + _query(request.query, comma),
        )
    )


def read_authorization(header: str) -> tuple[str, str] | None:
    """Access key and signature of an Authorization header; None when it is of another scheme."""
    scheme, _, rest = header.partition(" ")
    access_key, separator, signature = rest.strip().partition(":")
    return (access_key, signature) if scheme == SCHEME and separator else None


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest().upper() if body else ""


def _headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    ours = ((name.lower(), value.strip()) for name, value in pairs)
    joined = _grouped(pair for pair in ours if pair[0].startswith(HEADER_PREFIX))
    return "\n".join(f"{name}:{','.join(values)}" for name, values in sorted(joined.items()))


def _query(query: Iterable[tuple[str, str]], comma: str) -> str:
    parameters = [
        f"{quote(key, safe='')}={comma.join(quote(value, safe='') for value in sorted(values))}"
        for key, values in sorted(_grouped(query).items())
    ]
    return f"?{'&'.join(parameters)}" if parameters else ""


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return groups
