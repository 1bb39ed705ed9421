"""The outer shape of every answer: {result, data, code, message} (contracts/nodeman.md §1.1)."""

from typing import Any

from flask import Response, jsonify, request
from werkzeug.exceptions import HTTPException

from app.api.dialect import language
from app.api.nodeman import vocabulary
from app.domain.errors import HostlerError


def ok(data: Any) -> Response:
    """What was asked for."""
    return jsonify({"result": True, "data": data, "code": 0, "message": ""})


def render_error(error: Exception) -> Response:
    """What went wrong; HTTP stays 200 for everything we understand."""
    if isinstance(error, HostlerError):
        fault = vocabulary.fault_of(error)
        return _failure(fault.code, fault.message, fault.data, fault.errors)
    if isinstance(error, HTTPException):
        return _http_failure(error)
    response = _failure(
        vocabulary.UNEXPECTED, "Something broke on our side; the log has it under this request id"
    )
    response.status_code = 500
    return response


def _http_failure(error: HTTPException) -> Response:
    """404 and 405 keep their status, as in the original."""
    status = error.code or 500
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    sentence = HTTP_SENTENCES.get(status)
    if sentence is None:
        return _failure(vocabulary.PLATFORM + status, error.description or error.name)
    message = sentence.in_language(language()).format(
        path=request.path, method=request.method, allowed=allowed
    )
    response = _failure(vocabulary.PLATFORM + status, message)
    response.status_code = status
    if status == 405:
        response.headers["Allow"] = allowed
    return response


HTTP_SENTENCES = {404: vocabulary.UNKNOWN_ADDRESS, 405: vocabulary.WRONG_METHOD}


def _failure(code: int | str, message: str, data: Any = None, errors: Any = None) -> Response:
    # clients of the permission system look for it at the top, others in data
    denied = {
        name: data[name] for name in ("permission",) if isinstance(data, dict) and name in data
    }
    return jsonify(
        {
            "result": False,
            "data": data,
            "code": code,
            "message": f"{message}（{code}）",  # clients look for the full-width parentheses
            "errors": errors,
            **denied,
        }
    )
