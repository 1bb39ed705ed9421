"""What callers get back of hosts."""

from typing import Any

from marshmallow import Schema, fields

from app.access.credentials import LoginFacts
from app.api.nodeman import vocabulary
from app.api.nodeman.fields import Anything, Moment
from app.hosts.search import HostView
from app.jobs.views import TargetView


class HostRowAnswer(Schema):
    """One host, with what is known of it."""

    bk_host_id = fields.Integer(required=True)
    bk_biz_id = fields.Integer(required=True)
    bk_biz_name = fields.String(required=True)
    bk_cloud_id = fields.Integer(required=True)
    bk_cloud_name = fields.String(required=True)
    bk_host_name = fields.String(required=True)
    bk_addressing = fields.String(required=True)
    os_type = fields.String(required=True)
    cpu_arch = fields.String(required=True)
    inner_ip = fields.String(required=True)
    inner_ipv6 = fields.String(required=True)
    outer_ip = fields.String(required=True)
    outer_ipv6 = fields.String(required=True)
    login_ip = fields.String(required=True)
    data_ip = fields.String(required=True)
    ap_id = fields.Integer(required=True)
    install_channel_id = fields.Integer(required=True, allow_none=True)
    install_channel_name = fields.String(required=True)
    node_type = fields.String(required=True)
    status = fields.String(required=True)
    status_display = fields.String(required=True)
    version = fields.String(required=True)
    is_manual = fields.Boolean(required=True)
    created_at = Moment(required=True)
    updated_at = Moment(required=True)
    extra_data = fields.Dict(required=True)
    identity_info = fields.Dict(required=True)
    job_result = fields.Dict(required=True)
    topology = fields.List(Anything(), required=True)
    operate_permission = fields.Boolean(required=True)
    dept_name = fields.String(required=True)


class HostList(fields.List[Any]):
    """Hosts, or their addresses alone."""

    def __init__(self) -> None:
        super().__init__(Anything())


class HostPage(Schema):
    """Some hosts and how many there are; with `only_ip` a list of addresses; or counts."""

    total = fields.Integer()
    list = HostList()
    running_count = fields.Integer()
    no_permission_count = fields.Integer()
    manual_statistics = fields.Dict()


def host_row(
    view: HostView,
    login: LoginFacts | None,
    last: TargetView | None,
    may_operate: bool,
    language: str,
) -> dict[str, Any]:
    """A host as host/search lists it; the login without its secret."""
    host = view.host
    state = vocabulary.AGENT_STATUS_TITLE.get(host.agent_status)
    return {
        "bk_host_id": host.id,
        "bk_biz_id": host.business_id,
        "bk_biz_name": view.business_name,
        "bk_cloud_id": host.zone_id,
        "bk_cloud_name": view.zone_name,
        "bk_host_name": host.hostname,
        "bk_addressing": host.addressing,
        "os_type": host.os_type,
        "cpu_arch": host.cpu_arch,
        "inner_ip": host.inner_ip or "",
        "inner_ipv6": host.inner_ipv6 or "",
        "outer_ip": host.outer_ip,
        "outer_ipv6": host.outer_ipv6,
        "login_ip": host.login_ip,
        "data_ip": host.data_ip,
        "ap_id": host.access_point_id,
        "install_channel_id": host.install_channel_id,
        "install_channel_name": view.channel_name,
        "node_type": host.node_kind,
        "status": host.agent_status,
        "status_display": state.in_language(language) if state else host.agent_status,
        "version": host.agent_version or "",
        "is_manual": host.is_manual,
        "created_at": host.created_at,
        "updated_at": host.updated_at,
        "extra_data": {
            "peer_exchange_switch_for_agent": host.values.get("peer_exchange_switch_for_agent", 0),
            "bt_speed_limit": host.values.get("bt_speed_limit"),
            "enable_compression": host.values.get("enable_compression", False),
        },
        "identity_info": {
            "account": host.account,
            "auth_type": host.auth_type,
            "port": host.port,
            "re_certification": not (login and login.is_usable),
        },
        "job_result": _job_result(last, language) if last else {},
        "topology": [],
        "operate_permission": may_operate,
        "dept_name": "",
    }


def _job_result(last: TargetView, language: str) -> dict[str, Any]:
    part = last.current_part
    step = part.current_step if part else None
    return {
        "instance_id": last.instance_id,
        "job_id": last.job_id,
        "status": vocabulary.STATUS[last.status],
        "current_step": step.title.in_language(language) if step else "",
    }
