"""The many ways clients spell one address, brought to one (contracts/nodeman.md §1)."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ESB = re.compile(r"^/api/c/compapi/(?:v\d+/)?nodeman(?=/|$)")
GATEWAY = re.compile(r"^/api/bk-nodeman/[^/]+(?=/|$)")
AUDIENCE = re.compile(r"^/(?:open|system)(?=/)")

# what a deployment that is told one root for everything calls without /api
FLAT = frozenset(
    {"job", "plugin", "host", "ap", "cloud", "install_channel", "healthz", "sync_task", "policy"}
)
CORE = frozenset({"encrypt_rsa", "ipchooser_host", "ipchooser_topo"})

# the gateway's short names: subscription_task_result/ is backend/api/subscription/task_result/
SHORT = re.compile(r"^/(subscription|plugin)_([a-z_]+)/?$")
WHOLE = {
    "/api/remove_host/": "/api/host/remove_host/",
    "/api/cloud/list_cloud_area/": "/api/cloud/",
}

OWN = re.compile(r"^/(?:api/(?!v\d+/)|backend/|core/)|^/api/v2/(?:host|plugin)/")
FOREIGN = re.compile(r"^/(?:rq|jobs|login|logout|static|docs)(?:/|$)|^/(?:healthz|openapi\.json)$")


def normalise(path: str) -> str:
    """The one spelling we route; an address of another dialect or of the console stays as it is."""
    if FOREIGN.match(path):
        return path
    short = _strip(path)
    canonical = _canonical(short)
    return canonical if OWN.match(canonical) else path


def is_ours(path: str) -> bool:
    """Whether this (normalised) address belongs to this dialect."""
    return OWN.match(path) is not None


def _strip(path: str) -> str:
    """Without the names of the gateways it came through."""
    for prefix in (ESB, GATEWAY, AUDIENCE):
        path = prefix.sub("", path, count=1)
    # one published client has the audience in the middle
    return re.sub(r"^/core/(?:open|system)/", "/core/", path, count=1)


def _canonical(path: str) -> str:
    if match := SHORT.match(path):
        return f"/backend/api/{match[1]}/{match[2]}/"
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "remove_host" or first in FLAT:
        path = f"/api{path}"
    elif first == "api" and rest.partition("/")[0] in CORE:
        path = f"/core{path}"
    if OWN.match(path) and not path.endswith("/"):
        path += "/"
    return WHOLE.get(path, path)


class UrlNormaliser:
    """Rewrites the address before anything else sees it."""

    def __init__(self, application: "WSGIApplication") -> None:
        self.application = application

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        environ["PATH_INFO"] = normalise(environ.get("PATH_INFO", "") or "/")
        return self.application(environ, start_response)
