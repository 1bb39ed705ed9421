"""What callers get back of a subscription's tasks: instances, stages and their steps."""

from typing import Any

from marshmallow import Schema, fields

from app.api.nodeman import vocabulary
from app.api.nodeman.fields import Built, Moment, Stated, written
from app.api.nodeman.step_log import step_log
from app.domain.catalogue import CATALOGUE
from app.jobs.views import PartView, StepView, TargetView


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
    return {**info, "scope": [_place(target)], "process": {}, "meta": {}} if detail else info


def _place(target: TargetView) -> dict[str, Any]:
    """The entry of a scope that this host was in it by; clients show hosts by it."""
    return {
        "ip": target.inner_ip or target.inner_ipv6,
        "bk_cloud_id": target.zone_id,
        "bk_supplier_id": "0",
    }


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
        "status": vocabulary.step_status(step.status),
        "start_time": written(step.started_at),
        "finish_time": written(step.finished_at),
    }
