"""The description of everything served, made from the very schemas that serve it."""

from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Response, current_app, jsonify, send_from_directory

import app
from app.api.browser_policy import restrict
from app.api.nodeman.description import describe_jobs
from app.api.nodeman.endpoint import Endpoint
from app.api.ocp.description import describe_tasks

ASSETS = "static/docs"
SECURITY: list[dict[str, list[str]]] = [{"gateway": []}]


def create_blueprint(endpoints: Iterable[Endpoint]) -> Blueprint:
    """/openapi.json, and a page that shows it without any other server."""
    blueprint = Blueprint("description", __name__)
    listed = tuple(endpoints)

    def openapi() -> Response:
        found = current_app.extensions.get("hostler.openapi")
        if found is None:
            found = current_app.extensions["hostler.openapi"] = describe(listed)
        return jsonify(found)

    blueprint.add_url_rule("/openapi.json", "openapi", openapi)
    blueprint.add_url_rule("/docs", "docs", lambda: _asset("index.html"))
    blueprint.add_url_rule("/docs/<path:name>", "asset", _asset)
    blueprint.after_request(restrict)
    return blueprint


def _asset(name: str) -> Response:
    return send_from_directory(f"{current_app.root_path}/api/{ASSETS}", name)


def describe(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="Hostler",
        version=app.__version__,
        openapi_version="3.0.3",
        plugins=[plugin],
        info={"description": INTRODUCTION},
        security=SECURITY,
    )
    describe_jobs(spec, plugin, endpoints)
    describe_tasks(spec)
    for path, operation in PLAIN_PATHS.items():
        spec.path(path=path, operations=operation)
    return spec.to_dict()


def _schema_name(schema: Any) -> str:
    if isinstance(schema, type):
        return schema.__name__
    # what is in the path already is not in the body of that address
    return type(schema).__name__ + ("InPath" if schema.exclude else "")


INTRODUCTION = """Runs agent jobs on fleets of hosts, and tells the truth about every host.

Paths may carry the prefixes of the gateways they came through (`/api/c/compapi/v2/nodeman/`,
`/api/bk-nodeman/prod/`, `open/`, `system/`); parameters may be in the query, a form or a JSON body.
A POST that changes something can be repeated safely with an `Idempotency-Key` header: within a day
the same request under the same key is done once and answered alike. Another request under it is
refused; what was refused is not remembered."""

NUMBER = {"schema": {"type": "integer", "minimum": 0}}
EVENT = {
    "type": "object",
    "description": "one event of the stream; `data` is JSON: seq, kind, at, host_id, run_id, data",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["event", "data"],
}
REFUSED = {
    "type": "object",
    "properties": {"status": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["status", "message"],
}
REFUSALS = {
    400: "Not a number.",
    401: "Nobody we know.",
    403: "The job is not yours to see.",
    404: "There is no such job.",
    503: "No place is free; see Retry-After.",
}
PLAIN_PATHS: dict[str, dict[str, Any]] = {
    "/healthz": {
        "get": {
            "operationId": "health",
            "summary": "Whether work can be accepted",
            "tags": ["Health"],
            "security": [],
            "responses": {
                "200": {"description": "ready: the database and Redis answer"},
                "503": {"description": "not ready; the answer says what does not answer"},
            },
        }
    },
    "/api/job/{job_id}/events/": {
        "get": {
            "summary": "The events of a job as they happen",
            "description": "Server-sent; goes on after `Last-Event-ID`, or after `after`. An event "
            "`gap` names numbers that are gone, `end` is the last one.",
            "operationId": "job_events",
            "tags": ["Jobs"],
            "security": [{"gateway": []}, {"basic": []}, {"signature": []}, {"session": []}],
            "parameters": [
                {"in": "path", "name": "job_id", "required": True, **NUMBER},
                {"in": "header", "name": "Last-Event-ID", **NUMBER},
                {"in": "query", "name": "after", **NUMBER},
            ],
            "responses": {
                "200": {
                    "description": "a stream of events",
                    "content": {"text/event-stream": {"schema": EVENT}},
                },
                "204": {"description": "the job is over and you have everything"},
                **{
                    str(status): {
                        "description": text,
                        "content": {"application/json": {"schema": REFUSED}},
                    }
                    for status, text in REFUSALS.items()
                },
            },
        }
    },
}
