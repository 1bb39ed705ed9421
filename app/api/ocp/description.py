"""This language in the API description."""

import re
from typing import Any

from apispec import APISpec
from marshmallow import Schema, fields

from app.api.auth import REPEATABLE
from app.api.ocp import schemas
from app.api.ocp.endpoint import IDS, VERSIONS, Endpoint
from app.api.ocp.routes import endpoints

TAG = "Task instances"
VARIABLE = re.compile(r"<(\w+)>")
SCHEMES = {
    "basic": {"type": "http", "scheme": "basic", "description": "A user's name and password."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`OCP-ACCESS-KEY-HMACSHA1 <AK>:<signature>`, with a Date header.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "hostler_session",
        "description": "The console's session; a POST also sends X-CSRF-Token.",
    },
}
SECURITY: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES]
REFUSALS = {
    400: "Wrong parameters, or a state that does not allow it.",
    401: "Nobody we know.",
    403: "The permission is missing.",
    404: "There is no such task or subtask.",
}
KEY_TAKEN = {409: "The Idempotency-Key was used for another request."}


class SubError(Schema):
    """One wrong parameter."""

    object = fields.String(required=True)
    field = fields.String(required=True)
    rejectedValue = fields.Raw()  # noqa: N815 - a word of the wire
    message = fields.String(required=True)


class TaskError(Schema):
    """What went wrong."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    subErrors = fields.List(fields.Nested(SubError))  # noqa: N815 - a word of the wire


class TaskEnvelope(Schema):
    """The outer shape of every answer about tasks; `data` only where there is something to say."""

    successful = fields.Boolean(required=True)
    timestamp = fields.String(required=True)
    duration = fields.Integer(required=True, metadata={"description": "milliseconds"})
    status = fields.Integer(required=True)
    traceId = fields.String(required=True)  # noqa: N815 - a word of the wire
    server = fields.String(required=True)


class TaskRefusal(TaskEnvelope):
    """An answer that says no."""

    error = fields.Nested(TaskError, required=True)


def describe_tasks(spec: APISpec) -> None:
    """Add every endpoint of this language, under each version."""
    for name, scheme in SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for endpoint in endpoints.all:
        answer = _answer_schema(endpoint)
        for version in VERSIONS:
            for number, path in enumerate(endpoint.paths):
                name = f"{endpoint.view.__name__}_{version[-2:]}_{number}"
                spec.path(
                    path=version + VARIABLE.sub(lambda found: f"{{{IDS[found[1]]}}}", path),
                    operations={endpoint.method.lower(): _operation(endpoint, name, path, answer)},
                )


def _operation(endpoint: Endpoint, name: str, path: str, answer: type[Schema]) -> dict[str, Any]:
    in_path = [
        {"name": IDS[name], "in": "path", "required": True, "schema": {"type": "integer"}}
        for name in VARIABLE.findall(path)
    ]
    in_query = (
        [] if endpoint.takes is schemas.Query else [{"in": "query", "schema": endpoint.takes}]
    )
    once = [REPEATABLE] if endpoint.once else []
    refusals = REFUSALS | (KEY_TAKEN if endpoint.once else {})
    return {
        "operationId": f"task_{name}",
        "summary": endpoint.title,
        "description": "" if endpoint.gives else "The answer has no `data`.",
        "tags": [TAG],
        "security": SECURITY,
        "parameters": [*in_path, *in_query, *once],
        "responses": {
            "200": {"description": endpoint.title, "content": _content(endpoint, answer)},
            **{
                str(status): {
                    "description": text,
                    "content": {"application/json": {"schema": TaskRefusal}},
                }
                for status, text in refusals.items()
            },
        },
    }


def _content(endpoint: Endpoint, answer: type[Schema]) -> dict[str, Any]:
    if endpoint.name == "task.download_diagnosis":
        return {"application/zip": {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": answer}}


def _answer_schema(endpoint: Endpoint) -> type[Schema]:
    """The envelope around what this endpoint gives."""
    if endpoint.gives is None:
        return TaskEnvelope
    name = f"{endpoint.gives.__name__}Answer"
    if name not in _made:
        data = fields.Nested(endpoint.gives, required=True)
        _made[name] = type(name, (TaskEnvelope,), {"data": data, "__doc__": TaskEnvelope.__doc__})
    return _made[name]


_made: dict[str, type[Schema]] = {}
