"""Tell browsers what our pages may do: load from us, run our own scripts, stand in no frame."""

from typing import TypeVar

from flask import Flask
from werkzeug.wrappers import Response

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
Page = TypeVar("Page", bound=Response)


def restrict(response: Page, **more: str) -> Page:
    """Send this page with our policy; `more` has what it needs beyond, by directive."""
    directives = POLICY | {
        name: f"{POLICY.get(name, '')} {value}".strip()
        for name, value in ((name.replace("_", "-"), value) for name, value in more.items())
    }
    headers = response.headers
    headers["Content-Security-Policy"] = "; ".join(f"{n} {v}" for n, v in directives.items())
    headers["X-Frame-Options"] = "DENY"  # for browsers that do not know frame-ancestors
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    return response


def restrict_everything(app: Flask) -> None:
    """Let a browser that is shown any other answer, data or an error, do nothing with it."""

    @app.after_request
    def default(response: Page) -> Page:
        response.headers.setdefault("Content-Security-Policy", NOTHING)
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response


NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
