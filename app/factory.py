"""Put the application together: the languages it speaks, over one context."""

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from app.api import browser_policy, description, dialect, events, health
from app.api.console.routes import create_blueprint as create_console
from app.api.dialect import Dialect
from app.api.nodeman.routes import ENDPOINTS, NODEMAN
from app.api.nodeman.routes import create_blueprint as create_nodeman
from app.api.nodeman.urls import UrlNormaliser
from app.api.ocp.routes import OCP
from app.api.ocp.routes import create_blueprint as create_ocp
from app.api.origin import TrustedProxies, read_networks
from app.domain import errors
from app.jobs.context import Context

STATUS_OF = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
}


def create_app(ctx: Context) -> Flask:
    """The whole web application."""
    app = Flask(__name__, static_folder=None)
    app.extensions["hostler"] = ctx
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    dialect.limit_bodies(app, ctx.settings.max_body_mib)
    dialect.install_request_ids(app)
    browser_policy.restrict_everything(app)
    dialect.install_funnel(app, [OCP, events.speaks(_plain_error), NODEMAN], default=PLAIN)
    app.register_blueprint(create_nodeman())
    app.register_blueprint(create_ocp())
    app.register_blueprint(events.create_blueprint(ctx))
    app.add_url_rule("/healthz", view_func=health.healthz)
    app.register_blueprint(description.create_blueprint(ENDPOINTS))
    app.register_blueprint(create_console(ctx))
    proxies = read_networks(ctx.settings.trusted_proxies)
    wsgi = TrustedProxies(UrlNormaliser(app.wsgi_app), proxies)
    app.wsgi_app = wsgi  # type: ignore[method-assign]
    return app


def _plain_error(error: Exception) -> Response:
    """How an error looks where no wire language is spoken."""
    if isinstance(error, HTTPException):
        code, message = error.code or 500, error.description or error.name
    elif isinstance(error, errors.HostlerError):
        known = (STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)
        code, message = next(known, 500), error.message
    else:
        code, message = 500, "Something broke on our side; the log has it under this request id."
    response = jsonify({"status": code, "message": message})
    response.status_code = code
    return response


PLAIN = Dialect(name="plain", owns=lambda path: True, render_error=_plain_error)
