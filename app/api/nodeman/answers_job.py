"""What callers get back of jobs: rows of ours in this language, and the shape of each answer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

from app.api.nodeman import vocabulary
from app.api.nodeman.fields import Anything, Moment, Stated
from app.api.nodeman.step_log import dated, step_log
from app.domain.catalogue import CATALOGUE, Title
from app.domain.commands import FilteredHost
from app.domain.states import Status
from app.jobs.views import JobView, PartView, StepView, TargetView
from app.models.base import now


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
        "bk_biz_scope_display": list(job.business_names),
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
        "ip_filter_list": [host.address for host in job.filtered if host.address],
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
            "status": vocabulary.step_status(step.status),
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
