"""What all wire languages share: one reading of a request, one funnel for errors."""

import json
import re
import secrets
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, request
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app.domain.errors import BodyTooLarge, HostlerError, InvalidRequest, Unavailable
from app.domain.text import UNSTORABLE, storable_value
from app.jobs.context import Context
from app.jobs.prepare import source_address
from app.log import log

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

REQUEST_ID = re.compile(r"^[\w.:-]{1,128}$")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
DRAIN_CHUNK = 64 * 1024
DRAIN_LIMITS = 8  # how many bodies of the allowed size we are patient with


@dataclass(frozen=True)
class Dialect:
    """A wire language: which addresses speak it, and how its errors look."""

    name: str
    owns: Callable[[str], bool]
    render_error: Callable[[Exception], Response]


def context() -> Context:
    """The database, the queue and the keys behind this application."""
    found: Context = current_app.extensions["hostler"]
    return found


def install_funnel(app: Flask, dialects: Sequence[Dialect], default: Dialect) -> None:
    """Answer every error in the language of the address it happened at."""

    @app.errorhandler(Exception)
    def render(error: Exception) -> Response:
        spoken = next((d for d in dialects if d.owns(request.path)), default)
        return spoken.render_error(understand(error))


def understand(error: Exception) -> Exception:
    """An error in our own words where we have some; what we do not know is logged."""
    if isinstance(error, RequestEntityTooLarge):
        return too_large()
    if isinstance(error, HostlerError | HTTPException):
        return error
    if isinstance(error, OperationalError):
        log.error("The database does not answer", action="database_failed", error=str(error.orig))
        return Unavailable("The database does not answer; try again in a moment.")
    # formatted here: a traceback with local variables would show secrets
    trace = "".join(traceback.format_exception(error))
    log.error("A request broke", action="request_broke", path=request.path, trace=trace)
    return error


def install_request_ids(app: Flask) -> None:
    """Give every request a name that callers and logs share."""

    @app.before_request
    def name_request() -> None:
        asked = request.headers.get("X-Request-Id", "")
        g.request_id = asked if REQUEST_ID.match(asked) else secrets.token_hex(8)

    @app.after_request
    def tell_name(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return response


def limit_bodies(app: Flask, mebibytes: int) -> None:
    """No body larger than this is ever held in memory."""
    app.config["MAX_CONTENT_LENGTH"] = mebibytes << 20
    app.config["MAX_FORM_MEMORY_SIZE"] = mebibytes << 20


def too_large() -> BodyTooLarge:
    """Say so, after letting the sender finish: one still writing would never read the answer."""
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    _drain(limit * DRAIN_LIMITS)
    return BodyTooLarge(
        f"The request body is larger than {limit >> 20} MiB; send the hosts in several calls."
    )


def _drain(patience: int) -> None:
    stream = request.environ.get("wsgi.input")
    try:
        left = min(int(request.environ.get("CONTENT_LENGTH") or patience), patience)
        while stream is not None and left > 0 and (chunk := stream.read(min(left, DRAIN_CHUNK))):
            left -= len(chunk)
    except (OSError, ValueError):
        return  # the sender has gone


def parameters(*, mend_text: bool = False) -> dict[str, Any]:
    """Query, form and JSON body as one mapping; the body wins, the path is the caller's to add.

    What is not text (NUL, half a surrogate pair) is refused, or in a JSON body mended where it is
    a host that speaks.
    """
    found = _flatten(request.args)
    _refuse_cut_off()
    found.update(_flatten(request.form) if _is_form() else _json_body(mend_text))
    return found


def _refuse_cut_off() -> None:
    # a body without an announced length is silently cut at the limit
    if len(request.get_data()) >= current_app.config["MAX_CONTENT_LENGTH"]:
        raise too_large()


def _is_form() -> bool:
    # curl -d sends JSON under the name of a form
    return request.mimetype in FORMS and not (
        request.mimetype == FORMS[0] and request.get_data().lstrip().startswith(b"{")
    )


def _flatten(values: "MultiDict[str, str]") -> dict[str, Any]:
    flat = {name: got if len(got) > 1 else got[0] for name, got in values.lists()}
    refuse_unstorable(flat, "the query or form")
    return flat


def _json_body(mend_text: bool) -> dict[str, Any]:
    raw = request.get_data()
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
        body = storable_value(body) if mend_text else body
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from None
    except ValueError:
        raise InvalidRequest(
            "The body is not JSON: it holds a number of thousands of digits."
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_kind(body)}.")
    if b"\\u" in raw and not mend_text:  # only an escape brings in what UTF-8 cannot
        refuse_unstorable(body, "the body")
    return body


def _refuse_constant(name: str) -> Any:
    raise InvalidRequest(f"{name} is not JSON; send a number, or leave the field out.")


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def refuse_unstorable(value: Any, where: str) -> None:
    """Refuse NUL characters and half surrogate pairs, with the place named."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, str):
            if UNSTORABLE.search(item):
                raise InvalidRequest(
                    f"{path or where} holds a NUL character or half a surrogate pair; "
                    "neither is text.",
                    field=path,
                )
        elif isinstance(item, dict | list):
            waiting.extend(_children(path, item))


def _children(path: str, item: "dict[str, Any] | list[Any]") -> Iterable[tuple[str, Any]]:
    if isinstance(item, list):
        return ((f"{path}.{index}", child) for index, child in enumerate(item))
    names = ((name, name if not UNSTORABLE.search(name) else "\ufffd") for name in item)
    yielded = [(f"{path}.{shown}".lstrip("."), item[name]) for name, shown in names]
    # the names themselves are kept too where a field takes any object
    return [*yielded, *((path or "a name", name) for name in item)]


def language() -> str:
    """The reader's language: zh or en."""
    asked = (
        request.headers.get("blueking-language")
        or request.cookies.get("blueking-language")
        or request.accept_languages.best_match(["en", "zh", "zh-cn", "zh-hans", "zh-tw"])
        or context().settings.language
    )
    return "zh" if asked.lower().startswith("zh") else "en"


def base_url(from_host: str = "") -> str:
    """Where we are reached: as configured, else as this very request reached us.

    `from_host` names a host that is to reach us there: when we ourselves were asked over loopback,
    it is told the address we have towards it.
    """
    url = context().settings.site_url.rstrip("/") or request.host_url.rstrip("/")
    parts = urlsplit(url)
    if not from_host or not _is_loopback(parts.hostname or ""):
        return url
    address = source_address(from_host, 0)
    shown = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{shown}:{parts.port}" if parts.port else shown).geturl()


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
