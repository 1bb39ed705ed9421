"""This language in the API description."""

import re
from collections.abc import Iterable
from copy import copy
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from app.api.auth import HEADER, REPEATABLE
from app.api.nodeman import answers_host, answers_subscription
from app.api.nodeman.endpoint import Endpoint
from app.api.nodeman.fields import Address, Many, Rows, Text, Word
from app.api.nodeman.routes import HEALTH_PATHS
from app.api.nodeman.routes_report import INSTALLER_PATH, REPORT_PATH, Report
from app.api.nodeman.routes_subscription import ResultAnswer

VARIABLE = re.compile(r"<(\w+)>")
TAGS = {
    "job": "Jobs",
    "subscription": "Subscriptions",
    "host": "Hosts",
}
SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": HEADER,
    "description": 'A JSON object: `{"bk_app_code": …, "bk_app_secret": …, "bk_username": …}`.',
}
TEXT = {"schema": {"type": "string"}}


class Envelope(Schema):
    """The outer shape of every answer; HTTP is 200 for errors too, and the code tells."""

    result = fields.Boolean(required=True, metadata={"enum": [True]})
    code = fields.Integer(required=True, metadata={"enum": [0]})
    message = fields.String(required=True)


class Refusal(Schema):
    """An answer that says no: the code says why, and the message what would be right."""

    result = fields.Boolean(required=True, metadata={"enum": [False]})
    code = fields.Integer(required=True, metadata={"minimum": 1})
    message = fields.String(required=True, metadata={"description": "ends with （code）"})
    permission = fields.Raw(metadata={"description": "of a denial: what is missing, as in data"})
    data = fields.Raw(
        required=True,
        allow_none=True,
        metadata={"description": "hosts that were left out, the permission that is missing"},
    )
    errors = fields.Raw(
        required=True, allow_none=True, metadata={"description": "wrong fields, by name"}
    )


class Checks(Schema):
    """What work depends on, each with `ok` or with what is wrong with it."""

    database = fields.String(required=True)
    redis = fields.String(required=True)


class Taken(Schema):
    """Nothing: hosts expect no envelope here."""


def describe_jobs(spec: APISpec, plugin: MarshmallowPlugin, endpoints: Iterable[Endpoint]) -> None:
    """Add every endpoint of this language, and the few addresses beside them."""
    assert plugin.converter is not None
    spec.components.security_scheme("gateway", SCHEME)
    _describe_own_fields(plugin.converter)
    for endpoint in endpoints:
        _describe_endpoint(spec, plugin.converter, endpoint)
    _describe_health(spec)
    _describe_by_hand(spec)


def _describe_own_fields(converter: OpenAPIConverter) -> None:
    """What the converter cannot know by itself."""

    def limits(_self: Any, field: fields.Field[Any], **_more: Any) -> dict[str, Any]:
        if isinstance(field, Text) and not isinstance(field, Word | Address):
            return {"maxLength": field.most}
        return {"maxItems": field.most} if isinstance(field, Many) else {}

    def either(_self: Any, field: fields.Field[Any], **_more: Any) -> dict[str, Any]:
        if isinstance(field, answers_host.HostList):
            row = converter.resolve_nested_schema(answers_host.HostRowAnswer)  # type: ignore[no-untyped-call]
            return {"items": {"anyOf": [row, {"type": "string"}]}}
        if isinstance(field, ResultAnswer):
            row = converter.resolve_nested_schema(answers_subscription.InstanceResult)  # type: ignore[no-untyped-call]
            return {"oneOf": _bare_and_paged({"type": "array", "items": row})}
        return {}

    converter.add_attribute_function(limits)  # type: ignore[no-untyped-call]
    converter.add_attribute_function(either)  # type: ignore[no-untyped-call]


def _bare_and_paged(rows: dict[str, Any]) -> list[dict[str, Any]]:
    counter = {"type": "object", "additionalProperties": {"type": "integer"}}
    page = {"total": {"type": "integer"}, "list": rows, "status_counter": counter}
    return [rows, {"type": "object", "properties": page, "required": list(page)}]


# --- Endpoints ----------------------------------------------------------------------------------


def _describe_endpoint(spec: APISpec, converter: OpenAPIConverter, endpoint: Endpoint) -> None:
    answer = _answer_schema(endpoint)
    for number, path in enumerate(endpoint.paths):
        spec.path(
            path=VARIABLE.sub(r"{\1}", path),
            operations={
                method.lower(): {
                    "operationId": f"{method.lower()}_{endpoint.name.replace('/', '_')}_{number}",
                    "summary": endpoint.title,
                    "description": (endpoint.takes.__doc__ or "").strip(),
                    "tags": [TAGS.get(endpoint.name.partition("/")[0], "Zones and keys")],
                    **_asked(converter, endpoint, method, path),
                    "responses": {"200": _answered(answer)},
                }
                for method in endpoint.methods
            },
        )


def _asked(
    converter: OpenAPIConverter, endpoint: Endpoint, method: str, path: str
) -> dict[str, Any]:
    """The parameters, and the body where there is one."""
    in_path = VARIABLE.findall(path)
    takes = endpoint.takes(exclude=[name for name in in_path if name in endpoint.takes().fields])
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}
        for name in in_path
    ]
    if method == "GET":
        return {"parameters": parameters + _query(converter, takes)}
    if endpoint.once:
        parameters.append(REPEATABLE)
    return {"parameters": parameters, "requestBody": _body(takes)}


def _query(converter: OpenAPIConverter, takes: Schema) -> list[dict[str, Any]]:
    """The fields a query can carry: a single object is none of them, rows come as JSON text."""
    return [
        _parameter(converter, name, field)
        for name, field in takes.fields.items()
        if isinstance(field, Rows) or not isinstance(field, fields.Nested)
    ]


def _parameter(converter: OpenAPIConverter, name: str, field: fields.Field[Any]) -> dict[str, Any]:
    schema = converter.field2property(field)
    schema.pop("nullable", None)  # a query has no null: what is not meant is left out
    if schema.get("default", ...) is None:
        del schema["default"]
    about = {"name": name, "in": "query", "required": field.required}
    if isinstance(field, Rows):
        return {**about, "content": {"application/json": {"schema": schema}}}
    return {**about, "schema": schema}


def _body(takes: Schema) -> dict[str, Any]:
    is_required = any(field.required for field in takes.fields.values())
    return {"required": is_required, "content": {"application/json": {"schema": takes}}}


def _answer_schema(endpoint: Endpoint) -> type[Schema]:
    """The envelope around what this endpoint gives."""
    name = "".join(word.title() for word in re.split("[/_]", endpoint.name))
    data = copy(endpoint.gives)
    data.required = True
    return _enveloped(f"{name}Answer", data)


def _enveloped(name: str, data: fields.Field[Any]) -> type[Schema]:
    return type(name, (Envelope,), {"data": data, "__doc__": Envelope.__doc__})


def _answered(answer: type[Schema]) -> dict[str, Any]:
    return {
        "description": "`result` and `code` say whether it worked.",
        "content": {"application/json": {"schema": {"oneOf": [answer, Refusal]}}},
    }


# --- The addresses beside them ------------------------------------------------------------------


def _describe_health(spec: APISpec) -> None:
    health = {"application/json": {"schema": _enveloped("HealthAnswer", _checks())}}
    for number, path in enumerate(HEALTH_PATHS):
        spec.path(
            path=path,
            operations={
                method: {
                    "operationId": f"{method}_health_{number}",
                    "summary": "Whether work can be accepted",
                    "tags": ["Health"],
                    "security": [],
                    "responses": {
                        "200": {"description": "ready", "content": health},
                        "503": {"description": "not ready; `data` says why", "content": health},
                    },
                }
                for method in ("get", "post")
            },
        )


def _checks() -> fields.Field[Any]:
    return fields.Nested(Checks, required=True)


def _describe_by_hand(spec: APISpec) -> None:
    spec.path(
        path=INSTALLER_PATH,
        operations={
            "get": {
                "operationId": "installer",
                "summary": "The program that installs a host by hand",
                "tags": ["Hosts"],
                "security": [],
                "parameters": [{"in": "query", "name": "token", "required": True, **TEXT}],
                "responses": {
                    "200": {"description": "a Python program", "content": {"text/x-python": TEXT}},
                    "403": {
                        "description": "nothing waits for this token; the program says so",
                        "content": {"text/x-python": TEXT},
                    },
                },
            }
        },
    )
    spec.path(
        path=REPORT_PATH,
        operations={
            "post": {
                "operationId": "report_log",
                "summary": "A host reports on its own installation",
                "description": "The answer has no envelope unless it is a refusal.",
                "tags": ["Hosts"],
                "security": [],
                "parameters": [{"in": "header", "name": "X-Report-Token", **TEXT}],
                "requestBody": _body(Report()),
                "responses": {"200": _answered(Taken)},
            }
        },
    )
