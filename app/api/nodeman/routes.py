"""The blueprint of this language: its endpoints, and the few addresses outside the envelope."""

from flask import Blueprint, Response

from app.api import health
from app.api.dialect import Dialect, context
from app.api.nodeman import (
    routes_host,
    routes_job,
    routes_report,
    routes_subscription,
    routes_zone,
    urls,
)
from app.api.nodeman.endpoint import Endpoint
from app.api.nodeman.envelope import ok, render_error

NODEMAN = Dialect(name="nodeman", owns=urls.is_ours, render_error=render_error)
GROUPS = (
    routes_job.endpoints,
    routes_subscription.endpoints,
    routes_host.endpoints,
    routes_zone.endpoints,
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(e for group in GROUPS for e in group.all)
HEALTH_PATHS = ("/api/healthz/", "/backend/api/healthz/")


def create_blueprint() -> Blueprint:
    """Everything this language serves."""
    blueprint = Blueprint("nodeman", __name__)
    for group in GROUPS:
        group.register(blueprint)
    for number, path in enumerate(HEALTH_PATHS):
        blueprint.add_url_rule(path, f"healthz_{number}", healthz, methods=["GET", "POST"])
    routes_report.register(blueprint)
    return blueprint


def healthz() -> Response:
    """Whether work can be accepted, in this language's envelope."""
    checks = health.check(context())
    response = ok({name: problem or "ok" for name, problem in checks.items()})
    response.status_code = health.status(checks)
    return response
