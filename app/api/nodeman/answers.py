"""What callers get back: rows of ours in this language, and the shape of each answer."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

from app.access.credentials import LoginFacts
from app.api.nodeman import vocabulary
from app.api.nodeman.fields import Anything, Built, Moment, Stated, written
from app.api.nodeman.step_log import dated, step_log
from app.domain.catalogue import CATALOGUE, Title
from app.domain.commands import FilteredHost
from app.domain.states import Status
from app.hosts.search import HostView
from app.jobs.queries import JobView, PartView, StepView, TargetView
from app.models.base import now
from app.models.fleet import AccessPoint, InstallChannel
from app.zones.lists import ZoneView

# --- Jobs ---------------------------------------------------------------------------------------


class FilteredHostRow(Schema):
    """A host that was left out, and why."""

    bk_biz_id = fields.Integer(allow_none=True)
    bk_biz_name = fields.String()
    ip = fields.String()
    inner_ip = fields.String()
    inner_ipv6 = fields.String()
    bk_host_id = fields.Integer(allow_none=True)
    bk_cloud_id = fields.Integer(allow_none=True)
    bk_cloud_name = fields.String()
    status = fields.String()
    job_id = fields.Raw()
    exception = fields.String()
    msg = fields.String()
    cause = fields.String()


class JobStarted(Schema):
    """A job that was accepted."""

    job_id = fields.Integer(required=True)
    job_url = fields.String(required=True)
    ip_filter = fields.List(fields.Nested(FilteredHostRow), required=True)


class OperationStarted(Schema):
    """A job on known hosts that was accepted."""

    job_id = fields.Integer(required=True)
    job_url = fields.String(required=True)


class Statistics(Schema):
    """How many hosts of a job are in each state."""

    total_count = fields.Integer(required=True)
    failed_count = fields.Integer(required=True)
    ignored_count = fields.Integer(required=True)
    pending_count = fields.Integer(required=True)
    running_count = fields.Integer(required=True)
    success_count = fields.Integer(required=True)


class JobMeta(Schema):
    """How the task history groups a job."""

    type = fields.String()
    step_type = fields.String()
    op_type = fields.String()
    op_type_display = fields.String()
    step_type_display = fields.String()


class JobRow(Schema):
    """One job of the task history."""

    id = fields.Integer(required=True)
    job_type = fields.String(required=True)
    job_type_display = fields.String(required=True)
    created_by = fields.String(required=True)
    start_time = Moment(required=True)
    end_time = Moment(required=True, allow_none=True)
    cost_time = fields.String(required=True)
    status = fields.String(required=True)
    bk_biz_scope = fields.List(fields.Integer(), required=True)
    bk_biz_scope_display = fields.List(fields.String(), required=True)
    subscription_id = fields.Integer(required=True)
    task_id_list = fields.List(fields.Integer())
    statistics = fields.Nested(Statistics, required=True)
    meta = fields.Nested(JobMeta, required=True)


class JobPage(Schema):
    """Some jobs, and how many there are."""

    total = fields.Integer(required=True)
    list = fields.List(fields.Nested(JobRow), required=True)


class TargetRow(Schema):
    """One host of a job; a filtered one has `filter_host` and no `instance_id`."""

    instance_id = fields.String()
    filter_host = fields.Boolean()
    job_id = fields.Raw()
    suppressed_by_id = fields.Raw(allow_none=True)
    ip = fields.String(required=True)
    inner_ip = fields.String(required=True)
    inner_ipv6 = fields.String(required=True)
    bk_host_id = fields.Integer(required=True, allow_none=True)
    bk_cloud_id = fields.Integer(required=True, allow_none=True)
    bk_cloud_name = fields.String(required=True)
    bk_biz_id = fields.Integer(required=True, allow_none=True)
    bk_biz_name = fields.String(required=True)
    status = Stated(required=True)
    status_display = fields.String(required=True)
    start_time = Moment(allow_none=True)
    end_time = Moment(allow_none=True)
    cost_time = fields.String()
    step = fields.String(required=True)
    node_id = fields.Integer()
    op_type = fields.String()
    op_type_display = fields.String()
    is_manual = fields.Boolean()
    ap_id = fields.Integer(allow_none=True)
    cause = fields.String(allow_none=True)
    reason = fields.String()


class JobDetails(Schema):
    """One job and a page of its hosts, the failed ones first."""

    job_id = fields.Integer(required=True)
    created_by = fields.String(required=True)
    job_type = fields.String(required=True)
    job_type_display = fields.String(required=True)
    subscription_id = fields.Integer(required=True)
    task_id_list = fields.List(fields.Integer(), required=True)
    bk_biz_scope = fields.List(fields.Integer(), required=True)
    ip_filter_list = fields.List(fields.String(), required=True)
    total = fields.Integer(required=True)
    list = fields.List(fields.Nested(TargetRow), required=True)
    statistics = fields.Nested(Statistics, required=True)
    status = fields.String(required=True)
    start_time = Moment(required=True)
    end_time = Moment(required=True, allow_none=True)
    cost_time = fields.String(required=True)
    meta = fields.Nested(JobMeta, required=True)


class LogRow(Schema):
    """One step of a host, with what it said."""

    step = fields.String(required=True)
    status = fields.String(required=True)
    log = fields.String(required=True)
    start_time = Moment(required=True, allow_none=True)
    finish_time = Moment(required=True, allow_none=True)


class RetriedNode(Schema):
    """The step that is tried again."""

    retry_node_id = fields.String(required=True)
    retry_node_name = fields.String(required=True)


class Collected(Schema):
    """The asynchronous task that collects; -1: there is nothing to wait for."""

    celery_id = fields.Integer(required=True)


class CommandContent(Schema):
    """Something to type or to fetch."""

    name = fields.String()
    text = fields.String()
    description = fields.String()
    child_dir = fields.String(allow_none=True)
    show_description = fields.Boolean()
    always_download = fields.Boolean()


class CommandStep(Schema):
    """What belongs together in a way of installing by hand."""

    type = fields.String()
    description = fields.String()
    contents = fields.List(fields.Nested(CommandContent))


class CommandSolution(Schema):
    """One way of installing a host by hand."""

    type = fields.String()
    description = fields.String()
    steps = fields.List(fields.Nested(CommandStep))
    target_host_solutions = fields.List(Anything())


class CommandAnswer(Schema):
    """What to type on the host; where it waits for nobody only its `status`."""

    status = fields.String()
    solutions = fields.List(fields.Nested(CommandSolution))


def job_row(job: JobView, language: str) -> dict[str, Any]:
    """A job as the history lists it."""
    return {
        "id": job.id,
        "job_type": job.job_type,
        "job_type_display": vocabulary.job_title(job.job_type, language),
        "created_by": job.created_by,
        "start_time": job.created_at,
        "end_time": job.finished_at,
        "cost_time": seconds(job.created_at, job.finished_at),
        "status": vocabulary.JOB_STATUS[job.status],
        "bk_biz_scope": job.business_ids,
        "bk_biz_scope_display": [str(business) for business in job.business_ids],
        "subscription_id": job.subscription_id,
        "statistics": statistics(job.counts),
        "meta": vocabulary.job_meta(job.job_type, language),
    }


def job_details(
    job: JobView, task_ids: list[int], rows: list[dict[str, Any]], total: int, language: str
) -> dict[str, Any]:
    """A job with a page of its hosts."""
    return {
        **job_row(job, language),
        "job_id": job.id,
        "task_id_list": task_ids,
        "ip_filter_list": [host.inner_ip or host.inner_ipv6 for host in job.filtered],
        "total": total,
        "list": rows,
    }


def statistics(counts: Mapping[Status, int]) -> dict[str, int]:
    """How many hosts are in each state, as clients count them."""
    return {
        "total_count": sum(counts.values()),
        **{f"{status.value}_count": counts.get(status, 0) for status in Status},
    }


def seconds(start: datetime | None, end: datetime | None) -> str:
    """How long it took, or has taken so far."""
    return str(max(0, int(((end or now()) - start).total_seconds()))) if start else "0"


def target_row(target: TargetView, language: str) -> dict[str, Any]:
    """A host of a job, with the step it is at."""
    part = target.current_part
    step = part.current_step if part else None
    job_type = CATALOGUE.get(part.job_type) if part else None
    operation = job_type.operation if job_type else ""
    return {
        "instance_id": target.instance_id,
        "ip": target.address,
        "inner_ip": target.inner_ip,
        "inner_ipv6": target.inner_ipv6,
        "bk_host_id": target.host_id,
        "bk_cloud_id": target.zone_id,
        "bk_cloud_name": target.zone_name,
        "bk_biz_id": target.business_id,
        "bk_biz_name": target.business_name,
        "status": target.status,
        "status_display": status_display(target.status, part, step, language),
        "start_time": target.started_at,
        "end_time": target.finished_at,
        "cost_time": seconds(target.started_at, target.finished_at),
        "step": step.title.in_language(language) if step else "",
        "node_id": step.index if step else -1,
        "op_type": operation,
        "op_type_display": vocabulary.operation_title(operation, language),
        "is_manual": target.is_manual,
        "ap_id": target.access_point_id,
        "cause": part.cause.value if part and part.cause else None,
        "reason": part.reason if part else "",
    }


def status_display(
    status: Status, part: PartView | None, step: StepView | None, language: str
) -> str:
    """Where a host stands, in a few words."""
    if status is Status.PENDING and part and part.reason:
        return part.reason  # it waits for something in particular
    state = vocabulary.STATUS_TITLE[status].in_language(language)
    return f"{step.title.in_language(language)} {state}" if step else state


def filtered_row(host: FilteredHost, job_id: int) -> dict[str, Any]:
    """A host that was left out when the job was submitted."""
    row = vocabulary.filtered_host(host)
    return {
        **row,
        "filter_host": True,
        "job_id": job_id,
        "status": Status.IGNORED,
        "status_display": host.reason,
        "reason": host.reason,
        "step": "",
        "suppressed_by_id": None,
    }


def log_rows(target: TargetView, language: str) -> list[dict[str, Any]]:
    """The steps of a target, stage by stage; one that failed always has a FAILED row (§6.7)."""
    rows = [
        {
            "step": step.title.in_language(language),
            "status": step_status(step),
            "log": step_log(step, language),
            "start_time": step.started_at,
            "finish_time": step.finished_at,
        }
        for part in target.parts
        for step in part.steps
    ]
    failed = vocabulary.STATUS[Status.FAILED]
    if target.status is Status.FAILED and all(row["status"] != failed for row in rows):
        rows.append(_failure(target, failed, language))
    return rows


def _failure(target: TargetView, status: str, language: str) -> dict[str, Any]:
    """Why a target failed, where none of its steps did."""
    part = next((part for part in target.parts if part.status is Status.FAILED), target.parts[-1])
    title = Title("Result", "结果").in_language(language)
    return {
        "step": title,
        "status": status,
        "log": dated(part.finished_at, part.reason, "ERROR"),
        "start_time": part.started_at,
        "finish_time": part.finished_at,
    }


def step_status(step: StepView) -> str:
    """A step's state as clients may see it."""
    # clients stop reading at the first step that is not SUCCESS; a skipped one must not stop them
    return vocabulary.STATUS[Status.SUCCESS if step.status is Status.IGNORED else step.status]


def commands(text: str, language: str) -> dict[str, Any]:
    """One command to paste on a Linux host."""
    title = Title("Run this as root on the host.", "在目标主机上以 root 执行以下命令").in_language(
        language
    )
    content = {
        "name": "install",
        "text": text,
        "description": title,
        "child_dir": None,
        "show_description": True,
        "always_download": False,
    }
    step = {"type": "commands", "description": title, "contents": [content]}
    return {
        "solutions": [
            {"type": "shell", "description": title, "steps": [step], "target_host_solutions": []}
        ]
    }


# --- Subscriptions ------------------------------------------------------------------------------


class SubStep(Schema):
    """One phase of a stage on one host."""

    index = fields.Integer(required=True)
    node_name = fields.String(required=True)
    step_code = fields.String(required=True)
    pipeline_id = fields.String(required=True)
    log = fields.String(required=True)
    ex_data = fields.Raw(required=True, allow_none=True)
    status = fields.String(required=True)
    start_time = Moment(required=True, allow_none=True)
    finish_time = Moment(required=True, allow_none=True)


class TargetHost(Schema):
    """The host a stage runs on; there is always exactly one."""

    node_name = fields.String(required=True)
    pipeline_id = fields.String(required=True)
    status = fields.String(required=True)
    start_time = Moment(required=True, allow_none=True)
    finish_time = Moment(required=True, allow_none=True)
    sub_steps = Built(SubStep, required=True)


class StageResult(Schema):
    """One stage of an instance."""

    id = fields.String(required=True)
    type = fields.String(required=True)
    index = fields.Integer(required=True)
    pipeline_id = fields.String(required=True)
    action = fields.String(required=True)
    extra_info = fields.Raw(required=True)
    node_name = fields.String(required=True)
    status = fields.String(required=True)
    start_time = Moment(required=True, allow_none=True)
    finish_time = Moment(required=True, allow_none=True)
    target_hosts = Built(TargetHost, required=True)
    cause = fields.String(allow_none=True)
    reason = fields.String()


class InstanceResult(Schema):
    """One instance of a task, with its stages."""

    task_id = fields.Integer(required=True)
    record_id = fields.Integer(required=True)
    instance_id = fields.String(required=True)
    create_time = Moment(required=True)
    pipeline_id = fields.String(required=True)
    status = Stated(required=True)
    start_time = Moment(required=True, allow_none=True)
    finish_time = Moment(required=True, allow_none=True)
    instance_info = fields.Dict(required=True)
    steps = Built(StageResult, required=True)


class TaskStarted(Schema):
    """The task that tries again."""

    task_id = fields.Integer(required=True)


def instance_result(target: TargetView, language: str, detail: bool) -> dict[str, Any]:
    """An instance as task_result lists it; the detail adds logs and the whole snapshot."""
    return {
        "task_id": target.task_id,
        "record_id": target.id,
        "instance_id": target.instance_id,
        "create_time": target.created_at,
        "pipeline_id": str(target.id),
        "status": target.status,
        "start_time": target.started_at,
        "finish_time": target.finished_at,
        "instance_info": _instance_info(target, detail),
        "steps": [_stage(target, part, language, detail) for part in target.parts],
    }


def _instance_info(target: TargetView, detail: bool) -> dict[str, Any]:
    info: dict[str, Any] = {
        "host": {
            "bk_host_innerip": target.inner_ip,
            "bk_host_innerip_v6": target.inner_ipv6,
            "bk_cloud_id": target.zone_id,
            "bk_supplier_account": "0",
            "bk_host_name": target.hostname,
            "bk_host_id": target.host_id,
            "bk_biz_id": target.business_id,
            "bk_biz_name": target.business_name,
            "bk_cloud_name": target.zone_name,
            "bk_os_type": target.os_type,
        },
        "service": {},
    }
    return {**info, "scope": [], "process": {}, "meta": {}} if detail else info


def _stage(target: TargetView, part: PartView, language: str, detail: bool) -> dict[str, Any]:
    job_type = CATALOGUE.get(part.job_type)
    name = f"[{part.stage_id}] {vocabulary.job_title(part.job_type, language)}"
    status = vocabulary.STATUS[part.status]
    times = {"start_time": written(part.started_at), "finish_time": written(part.finished_at)}
    return {
        "id": part.stage_id,
        "type": job_type.node.value if job_type else "",
        "index": part.stage,
        "pipeline_id": str(part.id),
        "action": part.job_type,
        "extra_info": {},
        "node_name": name,
        "status": status,
        **times,
        "target_hosts": [
            {
                "node_name": f"{name} {target.zone_id}:{target.address}",
                "pipeline_id": str(part.id),
                "status": status,
                **times,
                "sub_steps": [_sub_step(part, step, language, detail) for step in part.steps],
            }
        ],
        "cause": part.cause.value if part.cause else None,
        "reason": part.reason,
    }


def _sub_step(part: PartView, step: StepView, language: str, detail: bool) -> dict[str, Any]:
    return {
        "index": step.index,
        "node_name": step.title.in_language(language),
        "step_code": step.key,
        "pipeline_id": f"{part.id}-{step.index}",
        "log": step_log(step, language) if detail else "",
        "ex_data": None,
        "status": step_status(step),
        "start_time": written(step.started_at),
        "finish_time": written(step.finished_at),
    }


# --- Hosts --------------------------------------------------------------------------------------


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


# --- Zones, access points, channels -------------------------------------------------------------


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
