"""Where a request comes from: which proxies are believed, and which pages may ask for changes."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from flask import request
from werkzeug.middleware.proxy_fix import ProxyFix

from app.api.dialect import context
from app.domain.errors import InvalidRequest
from app.domain.sentences import say

Network = IPv4Network | IPv6Network
WSGI = Callable[..., Iterable[bytes]]
SETTING = "HOSTLER_TRUSTED_PROXIES"
# a form of another site cannot send these; a script of one would have to ask us first
PROGRAMS_HEADERS = ("X-Requested-With", "Idempotency-Key")


def comes_from_here() -> bool:
    """Whether the browser says that this request was made by one of our own pages."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    # a proxy in front of us may have put its own name into Host
    ours = (request.host, urlsplit(context().settings.site).netloc)
    return origin is not None and urlsplit(origin).netloc in ours


def may_change() -> bool:
    """Whether a remembered password may ask for changes here: not for another site's page.

    Programs say nothing of where they come from, and browsers always do.
    """
    is_browser = "Sec-Fetch-Site" in request.headers or "Origin" in request.headers
    if not is_browser or any(name in request.headers for name in PROGRAMS_HEADERS):
        return True
    return comes_from_here()


def is_a_browser() -> bool:
    """Whether a person's browser asks, which would keep a password it was asked for."""
    return "Sec-Fetch-Mode" in request.headers or "text/html" in request.headers.get("Accept", "")


def read_networks(text: str) -> tuple[Network, ...]:
    """The networks of a setting, with commas between; raises InvalidRequest."""
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part)
    except ValueError as error:
        raise InvalidRequest(
            say(
                "{setting} takes addresses or networks with commas between: {why}.",
                setting=SETTING,
                why=str(error),
            )
        ) from None


class TrustedProxies:
    """Believes what these neighbours say in X-Forwarded-For, -Proto, -Host and -Prefix."""

    def __init__(self, app: WSGI, networks: tuple[Network, ...]) -> None:
        self.app = app
        self.networks = networks
        self.believing = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        app = self.believing if self._is_trusted(environ.get("REMOTE_ADDR", "")) else self.app
        return app(environ, start_response)

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self.networks)
