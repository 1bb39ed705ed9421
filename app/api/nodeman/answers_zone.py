"""What callers get back of zones, access points, channels and public keys."""

from collections.abc import Iterable, Sequence
from typing import Any

from marshmallow import Schema, fields

from app.api.nodeman import vocabulary
from app.api.nodeman.fields import Anything
from app.models.fleet import AccessPoint, InstallChannel
from app.zones.lists import ZoneView


class ZoneRow(Schema):
    """One zone."""

    bk_cloud_id = fields.Integer(required=True)
    bk_cloud_name = fields.String(required=True)
    isp = fields.String(required=True)
    isp_name = fields.String(required=True)
    isp_icon = fields.String(required=True)
    ap_id = fields.Integer(required=True)
    ap_name = fields.String(required=True)
    is_visible = fields.Boolean(required=True)
    node_count = fields.Integer(required=True)
    proxy_count = fields.Integer(required=True)
    alive_proxy_count = fields.Integer(required=True)
    exception = fields.String(required=True)
    proxies = fields.List(Anything(), required=True)
    permissions = fields.Dict(required=True)


class AccessPointRow(Schema):
    """One access point; -1 stands for an automatic choice."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    ap_type = fields.String(required=True)
    region_id = fields.String(required=True)
    city_id = fields.String(required=True)
    gse_version = fields.String(required=True)
    btfileserver = fields.List(Anything(), required=True)
    dataserver = fields.List(Anything(), required=True)
    taskserver = fields.List(Anything(), required=True)
    zk_hosts = fields.List(Anything(), required=True)
    zk_account = fields.String(required=True)
    package_inner_url = fields.String(required=True)
    package_outer_url = fields.String(required=True)
    agent_config = fields.Dict(required=True)
    status = fields.String(required=True)
    description = fields.String(required=True)
    is_enabled = fields.Boolean(required=True)
    is_default = fields.Boolean(required=True)
    proxy_package = fields.List(Anything(), required=True)
    file_cache_dirs = fields.String(required=True)
    port_config = fields.Dict(required=True)
    callback_url = fields.String(required=True)
    outer_callback_url = fields.String(required=True)
    nginx_path = fields.String(required=True)
    permissions = fields.Dict(required=True)


class ChannelRow(Schema):
    """One install channel; -1 stands for an automatic choice."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    bk_cloud_id = fields.Integer(required=True)
    jump_servers = fields.List(Anything(), required=True)
    upstream_servers = fields.Dict(required=True)
    hidden = fields.Boolean(required=True)


class PublicKey(Schema):
    """A key to encrypt passwords and keys with before sending them."""

    name = fields.String(required=True)
    description = fields.String(required=True)
    content = fields.String(required=True)
    cipher_type = fields.String(required=True)
    block_size = fields.Integer(required=True)


def zone_row(zone: ZoneView, may_edit: bool) -> dict[str, Any]:
    """A zone, with the counts of what is in it."""
    has_dead_proxies = zone.alive_proxies < zone.proxies
    return {
        "bk_cloud_id": zone.id,
        "bk_cloud_name": zone.name,
        "isp": zone.isp,
        "isp_name": zone.isp,
        "isp_icon": "",
        "ap_id": zone.access_point_id,
        "ap_name": zone.access_point_name,
        "is_visible": True,
        "node_count": zone.agents,
        "proxy_count": zone.proxies,
        "alive_proxy_count": zone.alive_proxies,
        "exception": "abnormal" if has_dead_proxies else "",
        "proxies": [],
        "permissions": {"view": True, "edit": may_edit, "delete": may_edit},
    }


KEPT = {
    "ap_type": "system",
    "region_id": "default",
    "city_id": "default",
    "gse_version": "V2",
    "btfileserver": [],
    "dataserver": [],
    "taskserver": [],
    "zk_hosts": [],
    "zk_account": "",
    "proxy_package": [],
    "file_cache_dirs": "",
    "port_config": {},
    "callback_url": "",
    "outer_callback_url": "",
    "nginx_path": "",
}


def access_point_rows(
    points: Sequence[AccessPoint], setup_path: str, may_edit: bool, language: str
) -> Iterable[dict[str, Any]]:
    """The automatic choice, and every access point there is."""
    yield {
        **KEPT,
        "id": -1,
        "name": vocabulary.AUTOMATIC.in_language(language),
        "package_inner_url": "",
        "package_outer_url": "",
        "agent_config": {},
        "status": "",
        "description": "",
        "is_enabled": True,
        "is_default": False,
        "permissions": {"view": True, "edit": False, "delete": False},
    }
    for point in points:
        yield {
            **KEPT,
            **{name: value for name, value in point.details.items() if name in KEPT},
            "id": point.id,
            "name": point.name,
            "package_inner_url": point.package_url,
            "package_outer_url": point.package_outer_url,
            "agent_config": {"linux": {"setup_path": point.setup_path or setup_path}},
            "status": "NORMAL",
            "description": point.description,
            "is_enabled": point.is_enabled,
            "is_default": point.is_default,
            "permissions": {"view": True, "edit": may_edit, "delete": may_edit},
        }


def channel_rows(channels: Sequence[InstallChannel], language: str) -> Iterable[dict[str, Any]]:
    """The automatic choice, and every install channel there is."""
    yield {
        "id": -1,
        "name": vocabulary.AUTOMATIC.in_language(language),
        "bk_cloud_id": -1,
        "jump_servers": [],
        "upstream_servers": {},
        "hidden": False,
    }
    for channel in channels:
        yield {
            "id": channel.id,
            "name": channel.name,
            "bk_cloud_id": channel.zone_id,
            "jump_servers": channel.jump_servers,
            "upstream_servers": channel.upstream_servers,
            "hidden": channel.is_hidden,
        }
