"""Who is in front of the browser: sign-in, the session's cookie, and proof that a form is ours."""

from typing import Any

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from app.access.audit import record
from app.access.caller import Caller
from app.access.users import SIGN_IN, authenticate_user
from app.access.web_sessions import (
    close_session,
    csrf_token,
    is_csrf_token,
    open_session,
    session_caller,
)
from app.api.browser_policy import restrict
from app.api.callers import COOKIE
from app.api.console.words import speak
from app.api.dialect import language, refuse_unstorable
from app.api.origin import comes_from_here
from app.domain.errors import Forbidden, Unauthenticated
from app.jobs.context import Context
from app.models.base import now, reading, transaction

OPEN_TO_ALL = frozenset({"console.sign_in", "console.static"})
FOREIGN_FORM = (
    "This form is not from this console, or it is too old; go back, reload and try again."
)


def install(console: Blueprint, ctx: Context) -> None:
    """Add sign-in and sign-out, and ask everybody else who they are."""

    @console.before_request
    def refuse_what_is_no_text() -> None:
        refuse_unstorable(request.values.to_dict(flat=False), "the query or form")

    @console.before_request
    def ask_who() -> AnyResponse | None:
        if request.endpoint in OPEN_TO_ALL:
            return None
        if isinstance(found := find_caller(ctx), Unauthenticated):
            return turn_away()
        g.caller = found
        if request.method == "POST" and not is_csrf_token(
            _token(), request.form.get("csrf_token", "")
        ):
            raise Forbidden(FOREIGN_FORM)
        return None

    @console.context_processor
    def tell_templates() -> dict[str, Any]:
        return {
            "caller": g.get("caller"),
            "csrf_token": csrf_token(_token()),
            "language": language(),
            "say": speak(language()),
            "here": here,
        }

    @console.after_request
    def protect(response: Response) -> Response:
        restrict(response)
        if request.endpoint != "console.static":
            response.headers["Cache-Control"] = "no-store"
        return response

    @console.route("/login", methods=["GET", "POST"])
    def sign_in() -> AnyResponse | str | tuple[str, int]:
        target = _own_path(request.values.get("next", ""))
        if request.method == "GET":
            return render_template("console/sign_in.html", next=target, username="")
        if not comes_from_here():
            raise Forbidden(FOREIGN_FORM)
        name = request.form.get("username", "")
        try:
            return _signed_in(ctx, name, request.form.get("password", ""), target)
        except Unauthenticated as error:
            page = render_template(
                "console/sign_in.html", next=target, username=name, problem=error.message
            )
            return page, 401

    @console.post("/logout")
    def sign_out() -> AnyResponse:
        with transaction(ctx.engine) as session:
            close_session(session, _token())
        response = redirect(url_for("console.sign_in"))
        response.delete_cookie(COOKIE)
        return response


def find_caller(ctx: Context) -> Caller | Unauthenticated:
    """Whoever this browser is signed in as, or why nobody."""
    try:
        with reading(ctx.engine) as session:
            return session_caller(session, _token(), now())
    except Unauthenticated as error:
        return error


def turn_away() -> AnyResponse:
    """To the sign-in page, and back here afterwards."""
    if request.method != "GET":
        return redirect(url_for("console.sign_in"))
    return redirect(url_for("console.sign_in", next=request.full_path.rstrip("?")))


def here(**changed: Any) -> str:
    """This page with another status or page; nothing else a caller wrote gets into a link."""
    asked = {"status": request.args.get("status"), **changed}
    return url_for(request.endpoint or "", **(request.view_args or {}), **asked)


def _signed_in(ctx: Context, name: str, password: str, target: str) -> AnyResponse:
    source = request.remote_addr or ""
    caller = authenticate_user(ctx.engine, name, password, source)
    with transaction(ctx.engine) as session:
        opened = open_session(session, caller.name, source, now())
        record(session, caller, SIGN_IN, caller.name, source, "done")
    response = redirect(target)
    response.set_cookie(
        COOKIE,
        opened.token,
        expires=opened.expires_at,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure or ctx.settings.site.startswith("https:"),
    )
    return response


def _token() -> str:
    return request.cookies.get(COOKIE, "")


def _own_path(path: str) -> str:
    """A path of ours to go on to; anything that leads elsewhere leads to the jobs."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else url_for("console.jobs")
