"""cloud/, ap/, install_channel/ and the public keys (contracts/nodeman.md §2.7, §2.8)."""

from typing import Any

from marshmallow import fields

from app.access.caller import Role
from app.access.wire_keys import DEFAULT, ensure_wire_key, public_keys
from app.api.auth import Call
from app.api.dialect import parameters
from app.api.nodeman import answers_zone as answers
from app.api.nodeman.endpoint import Endpoints
from app.api.nodeman.fields import Asked, Flag, Many, Text
from app.domain.errors import InvalidRequest
from app.models.base import reading, transaction
from app.zones.lists import list_access_points, list_install_channels, list_zones

endpoints = Endpoints()


class CloudList(Asked):
    """Which zones."""

    with_default_area = Flag(default=True)


class ChannelList(Asked):
    """Which install channels."""

    with_hidden = Flag()


class KeyNames(Asked):
    """Which public keys."""

    names = Many(Text(), load_default=None)


def _refuse_creating(things: str, *names: str) -> None:
    """A POST here lists, as some clients want it; one that would create must not look done."""
    sent = parameters()
    if named := [name for name in names if name in sent]:
        raise InvalidRequest(f"{things} cannot be created over this API yet.", field=named[0])


@endpoints.read(
    "/api/cloud/",
    title="Zones",
    takes=CloudList,
    gives=fields.List(fields.Nested(answers.ZoneRow)),
)
def cloud(call: Call, asked: dict[str, Any]) -> list[dict[str, Any]]:
    _refuse_creating("zones", "bk_cloud_name", "isp")
    with reading(call.ctx.engine) as session:
        zones = list_zones(session)
    shown = [zone for zone in zones if zone.id or asked["with_default_area"]]
    return [answers.zone_row(zone, call.caller.has_role(Role.ADMIN)) for zone in shown]


@endpoints.read(
    "/api/ap/",
    title="Access points",
    gives=fields.List(fields.Nested(answers.AccessPointRow)),
)
def access_points(call: Call, asked: dict[str, Any]) -> list[dict[str, Any]]:
    _refuse_creating("access points", "name", "servers", "zk_hosts")
    with reading(call.ctx.engine) as session:
        points = list_access_points(session)
    may_edit = call.caller.has_role(Role.ADMIN)
    path = call.ctx.settings.setup_path
    return list(answers.access_point_rows(points, path, may_edit, call.language))


@endpoints.read(
    "/api/install_channel/",
    title="Install channels",
    takes=ChannelList,
    gives=fields.List(fields.Nested(answers.ChannelRow)),
)
def install_channels(call: Call, asked: dict[str, Any]) -> list[dict[str, Any]]:
    _refuse_creating("install channels", "name", "jump_servers")
    with reading(call.ctx.engine) as session:
        channels = list_install_channels(session, asked["with_hidden"])
    return list(answers.channel_rows(channels, call.language))


@endpoints.read(
    "/core/api/encrypt_rsa/fetch_public_keys/",
    title="Keys to encrypt passwords and keys with",
    takes=KeyNames,
    gives=fields.List(fields.Nested(answers.PublicKey)),
)
def fetch_public_keys(call: Call, asked: dict[str, Any]) -> list[dict[str, Any]]:
    names = asked["names"] or [DEFAULT]
    with reading(call.ctx.engine) as session:
        found = public_keys(session, names)
    if found or DEFAULT not in names:
        return found
    with transaction(call.ctx.engine) as session:
        ensure_wire_key(session, call.ctx.vault)
        return public_keys(session, names)
