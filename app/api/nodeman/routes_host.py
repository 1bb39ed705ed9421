"""host/…: search, edit, forget (contracts/nodeman.md §2.7)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marshmallow import fields, post_load
from sqlalchemy.orm import Session

from app.access.caller import Role, require
from app.access.credentials import login_facts
from app.api.auth import Call
from app.api.nodeman import answers_host as answers
from app.api.nodeman import vocabulary
from app.api.nodeman.endpoint import Endpoints, refusal
from app.api.nodeman.fields import (
    Asked,
    Flag,
    HostPath,
    Id,
    Many,
    Object,
    Text,
    Whole,
    Word,
    ip,
    ipv4,
    ipv4_list,
    ipv6,
)
from app.api.nodeman.schemas import (
    AUTOMATIC,
    VALUES,
    LoginFields,
    Paged,
    Selecting,
    host_filter,
    login_of,
    login_problems,
    window,
)
from app.domain.commands import LoginSpec
from app.domain.errors import InvalidRequest
from app.domain.sentences import say
from app.hosts.forget import forget_hosts
from app.hosts.search import (
    HostFilter,
    businesses_of,
    count_running,
    find_host_ids,
    search_addresses,
    search_hosts,
)
from app.hosts.update import HostEdit, get_own_host, update_host
from app.jobs.logins import standing_logins
from app.jobs.target_queries import latest_targets
from app.models.base import now, reading, transaction

endpoints = Endpoints()


class PlacedAddresses(Asked):
    """Which addresses, each with its zone; the first that is meant counts."""

    ipv4 = Flag()
    ipv6 = Flag()
    ipv4_with_brackets = Flag()


class Search(Selecting, Paged):
    """Which hosts, and how they are returned: `only_ip` as `return_field`, `cloud_id_ip` all."""

    extra_data = Many(Text(), load_default=None)
    only_ip = Flag()
    return_field = Word(tuple(vocabulary.ADDRESSES), load_default=None)
    cloud_id_ip = Object(PlacedAddresses)
    running_count = Flag()

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> dict[str, Any]:
        placed = [name for name, is_meant in (asked["cloud_id_ip"] or {}).items() if is_meant]
        skip, take = (0, None) if placed else window(asked)
        addresses = asked["return_field"] or "inner_ip" if asked["only_ip"] else None
        return {
            **asked,
            "filter": host_filter(asked),
            "addresses": f"cloud_{placed[0]}" if placed else addresses,
            "skip": skip,
            "take": take,
        }


class UpdateSingle(LoginFields):
    """What to change on one host."""

    bk_host_id = Id(required=True)
    bk_cloud_id = Whole()
    inner_ip = ipv4()
    inner_ipv6 = ipv6()
    outer_ip = ipv4_list()
    outer_ipv6 = ipv6()
    login_ip = ip()
    data_ip = ip()
    ap_id = Id(attribute="access_point_id")
    install_channel_id = Id()
    peer_exchange_switch_for_agent = Whole(most=1, metadata={"flag": True})
    bt_speed_limit = Whole()
    enable_compression = Flag(default=None)
    data_path = HostPath()

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> dict[str, Any]:
        if asked.get("auth_type") == "TJJ_PASSWORD":
            raise InvalidRequest(NO_VAULT, field="auth_type")
        return asked


NO_VAULT = "auth_type: TJJ_PASSWORD needs a password vault, and none is configured."
INNER = ("inner_ip", "inner_ipv6")
OTHER_ADDRESSES = ("outer_ip", "outer_ipv6", "login_ip", "data_ip")
PLAIN = ("access_point_id", "install_channel_id", "port", "account", "auth_type")


class Removal(Asked):
    """Which hosts to forget."""

    bk_biz_id = Many(Id(), load_default=None)
    bk_host_id = Many(Id(), load_default=None)
    exclude_hosts = Many(Id(), load_default=None)
    is_proxy = Flag()


@endpoints.read(
    "/api/host/search/",
    title="Hosts by what is known of them",
    takes=Search,
    gives=fields.Nested(answers.HostPage),
)
def search(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    wanted = replace(asked["filter"], visible=call.caller.businesses)
    with reading(call.ctx.engine) as session:
        if asked["running_count"]:
            return {
                "running_count": count_running(session, wanted),
                "no_permission_count": 0,
                "manual_statistics": {},
            }
        if asked["addresses"]:
            return _addresses(session, wanted, asked)
        views, total = search_hosts(session, wanted, asked["skip"], asked["take"])
        ids = [view.host.id for view in views]
        extra = frozenset(asked["extra_data"] or ())
        logins = login_facts(session, ids, now())
    last = latest_targets(call.ctx, ids) if "job_result" in extra else {}
    may_operate = call.caller.has_role(Role.OPERATOR)
    rows = [
        answers.host_row(
            view, logins.get(view.host.id), last.get(view.host.id), may_operate, call.language
        )
        for view in views
    ]
    return {"total": total, "list": answers.HostRowAnswer(many=True).dump(rows)}


def _addresses(session: Session, wanted: HostFilter, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The hosts' addresses alone; one that has none of this kind is left out."""
    column, form = vocabulary.ADDRESSES[asked["addresses"]]
    found, total = search_addresses(session, wanted, column, asked["skip"], asked["take"])
    listed = [form.format(zone_id=zone_id, address=address) for zone_id, address in found]
    return {"total": total, "list": listed}


@endpoints.change(
    "/api/host/update_single/",
    title="Edit one host, and how to log in on it",
    takes=UpdateSingle,
    gives=fields.Dict(),
)
def update_single(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    call.note(f"host {asked['bk_host_id']}", fields=sorted(set(asked) - {"password", "key"}))
    with transaction(call.ctx.engine) as session:
        host = get_own_host(session, call.caller, asked["bk_host_id"])
        known = {"auth_type": host.auth_type, "account": host.account, "port": host.port}
        standing = standing_logins(call.ctx, [host])
        update_host(session, call.ctx.vault, _edit(asked, known), standing)
    return {}


@endpoints.change(
    "/api/host/remove_host/",
    title="Forget hosts without touching them",
    takes=Removal,
    gives=fields.Dict(),
)
def remove_host(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    if (asked["bk_host_id"] is None) == (asked["exclude_hosts"] is None):
        raise InvalidRequest("Send either bk_host_id or exclude_hosts.", field="bk_host_id")
    if asked["bk_host_id"] == []:  # never "all", whatever a caller's own search has found
        raise InvalidRequest(
            say("bk_host_id is empty; name at least one host."), field="bk_host_id"
        )
    wanted = _removed(call, asked)
    with transaction(call.ctx.engine) as session:
        ids = find_host_ids(session, wanted)
        require(call.caller, Role.OPERATOR, businesses_of(session, ids))
        call.note(f"{len(ids)} hosts", host_ids=forget_hosts(session, ids))
    return {}


def _edit(asked: Mapping[str, Any], known: Mapping[str, Any]) -> HostEdit:
    """The change that was asked for; what was not sent stays."""
    changes = {name: asked[name] for name in INNER if name in asked}
    changes |= {name: asked[name] or "" for name in OTHER_ADDRESSES if name in asked}
    changes |= {name: asked[name] for name in PLAIN if asked.get(name) is not None}
    if changes.get("install_channel_id") == AUTOMATIC:
        changes["install_channel_id"] = None  # no channel is chosen by address yet
    login = _login(asked, known)
    if login:
        changes["auth_type"] = login.auth_type.value
    return HostEdit(
        host_id=asked["bk_host_id"],
        changes=changes,
        values={name: asked[name] for name in VALUES if asked.get(name) is not None},
        login=login,
    )


def _login(asked: Mapping[str, Any], known: Mapping[str, Any]) -> LoginSpec | None:
    """The new login, whole with what is known; a part that cannot be made one is refused."""
    row = {**known, **{name: value for name, value in asked.items() if value is not None}}
    sent = [name for name in ("password", "key") if asked.get(name)]
    if sent and not asked.get("auth_type"):
        row["auth_type"] = sent[0].upper()
    if not sent and row["auth_type"] == known["auth_type"]:
        return None
    if problems := login_problems(row, is_required=True):
        raise refusal(problems)
    return login_of(row)


def _removed(call: Call, asked: Mapping[str, Any]) -> HostFilter:
    ids, excluded = asked["bk_host_id"], asked["exclude_hosts"]
    return HostFilter(
        host_ids=None if ids is None else frozenset(i for i in ids if i is not None),
        excluded_ids=frozenset(i for i in excluded or () if i is not None),
        business_ids=frozenset(b for b in asked["bk_biz_id"] or () if b is not None) or None,
        visible=None if ids is not None else call.caller.businesses,
        node_kinds=frozenset({"PROXY" if asked["is_proxy"] else "AGENT"}),
    )
