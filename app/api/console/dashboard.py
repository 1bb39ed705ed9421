"""rq-dashboard behind our sign-in: everybody signed in may look, an administrator may change."""

import re
import secrets
from typing import Any

from flask import Flask, Response, g, request
from jinja2.ext import Extension
from rq.serializers import JSONSerializer
from rq_dashboard import web as untyped
from werkzeug.wrappers import Response as AnyResponse

from app.access.caller import Caller, Role
from app.api.browser_policy import restrict
from app.api.console.sign_in import find_caller, turn_away
from app.api.origin import comes_from_here
from app.jobs.context import Context

rq_dashboard: Any = untyped  # it declares no types, and says no to what its settings may hold
BLUEPRINT = rq_dashboard.blueprint.name
CHANGES_BY_GET = f"{BLUEPRINT}.requeue_all"  # a foreign page could make a browser ask for it


def mount(app: Flask, ctx: Context) -> None:
    """Serve it under /rq/."""
    rq_dashboard.config.serializer = JSONSerializer  # its job pages answer 500 otherwise
    app.config["RQ_DASHBOARD_REDIS_URL"] = (ctx.settings.redis,)
    rq_dashboard.setup_rq_connection(app)
    app.register_blueprint(rq_dashboard.blueprint, url_prefix="/rq")
    if not app.has_static_folder:  # its pages ask the application for their icon
        app.add_url_rule(
            "/static/<filename>", "static", view_func=rq_dashboard.blueprint.send_static_file
        )

    app.jinja_env.add_extension(Escaped)
    app.jinja_env.globals["rq_nonce"] = _nonce

    @app.before_request
    def ask_who() -> AnyResponse | None:
        if request.blueprint != BLUEPRINT:
            return None
        caller = find_caller(ctx)
        return refuse(caller) if isinstance(caller, Caller) else turn_away()

    @app.after_request
    def protect(response: Response) -> Response:
        if request.blueprint == BLUEPRINT:
            restrict(
                response,
                # its templates become functions in the browser, which is what eval is asked for
                script_src=f"'nonce-{_nonce()}' 'unsafe-eval'",
                style_src_attr="'unsafe-inline'",
            )
        return response


class Escaped(Extension):
    """Its pages as they should have been: what Redis holds is text in them, never markup.

    They fill in templates in the browser, where `<%=` puts in markup and `<%-` text.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        if not (name or "").startswith(f"{BLUEPRINT}/"):
            return source
        source = ESCAPED_BY_HAND.sub(r"<%- \1 %>", source)
        source = source.replace("<%=", "<%-")
        return source.replace("<script type=", '<script nonce="{{ rq_nonce() }}" type=')


ESCAPED_BY_HAND = re.compile(r"<%= \$\('<div/>'\)\.text\((.+?)\)\.html\(\) %>")


def _nonce() -> str:
    """What the scripts of this answer are known by; markup that slipped in cannot know it."""
    if "rq_nonce" not in g:
        g.rq_nonce = secrets.token_urlsafe(16)
    return str(g.rq_nonce)


def refuse(caller: Caller) -> AnyResponse | None:
    """Why this may not be done, or None."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        if request.endpoint == CHANGES_BY_GET:
            return Response("Changes are made by POST.\n", 405, mimetype="text/plain")
        return None
    if not caller.has_role(Role.ADMIN):
        text = f"{caller.name} is {caller.role}; only an admin changes the queue.\n"
        return Response(text, 403, mimetype="text/plain")
    if not comes_from_here():
        return Response("This was not asked for by our own page.\n", 403, mimetype="text/plain")
    return None
