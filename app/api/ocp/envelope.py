"""The outer shape of every answer: {data, successful, status, …} (contracts/ocp-tasks.md §1.3)."""

import hashlib
import re
import socket
import time
from typing import Any

from flask import Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from app.api.callers import COOKIE
from app.api.dialect import language
from app.api.ocp import vocabulary
from app.api.origin import is_a_browser
from app.domain.errors import HostlerError
from app.models.base import now

TRACE_ID = re.compile(r"[0-9a-f]{16}")
SERVER = socket.gethostname()


def start_clock() -> None:
    """Remember when this request came in; before anything else looks at it."""
    g.started = time.perf_counter()


def ok(data: Any = None) -> Response:
    """What was asked for; an operation without an answer has no `data` at all."""
    return jsonify(_frame(200, {} if data is None else {"data": data}))


def render_error(error: Exception) -> Response:
    """What went wrong, under its real status; never more than a person can use."""
    fault = _fault(error)
    said: dict[str, Any] = {"code": fault.code, "message": fault.message}
    if fault.sub_errors:
        said["subErrors"] = list(fault.sub_errors)
    response = jsonify(_frame(fault.status, {"error": said}))
    response.status_code = fault.status
    # a browser would ask by itself, and remember
    if fault.status == 401 and not request.cookies.get(COOKIE) and not is_a_browser():
        response.headers["WWW-Authenticate"] = 'Basic realm="Hostler"'
    if fault.status == 405:
        response.headers["Allow"] = ", ".join(_methods(error))
    if fault.status == 503:
        response.headers["Retry-After"] = "5"
    return response


def _fault(error: Exception) -> vocabulary.Fault:
    if isinstance(error, HostlerError):
        return vocabulary.fault_of(error, language())
    if isinstance(error, HTTPException):
        return _http_fault(error)
    return vocabulary.Fault(500, "COM10999", vocabulary.UNEXPECTED.in_language(language()))


def _http_fault(error: HTTPException) -> vocabulary.Fault:
    status = error.code or 500
    if status == 404:
        words = vocabulary.UNKNOWN_ADDRESS.in_language(language())
        return vocabulary.Fault(404, "COM10001", words)
    if status == 405:
        words = vocabulary.WRONG_METHOD.in_language(language())
        allowed = ", ".join(_methods(error))
        return vocabulary.Fault(
            405, "COM10008", words.format(allowed=allowed, method=request.method)
        )
    code = "COM10001" if status < 500 else "COM10999"
    return vocabulary.Fault(status, code, error.description or error.name)


def _methods(error: Any) -> list[str]:
    return sorted(getattr(error, "valid_methods", None) or ())


def _frame(status: int, content: dict[str, Any]) -> dict[str, Any]:
    began = g.get("started")
    return {
        **content,
        "successful": status == 200,
        "timestamp": now().astimezone().isoformat(timespec="milliseconds"),
        "duration": round((time.perf_counter() - began) * 1000) if began else 0,
        "status": status,
        "traceId": trace_id(),
        "server": SERVER,
    }


def trace_id() -> str:
    """The request's id in the 16 hexadecimal digits clients expect."""
    asked = str(g.get("request_id", ""))
    if TRACE_ID.fullmatch(asked):
        return asked
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
