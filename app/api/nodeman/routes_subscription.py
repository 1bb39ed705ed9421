"""subscription/…: the declarative side of a job (contracts/nodeman.md §2.10, §2.11)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marshmallow import fields, post_load

from app.access.caller import Role, require
from app.api.auth import Call
from app.api.nodeman import answers_job, answers_subscription, vocabulary
from app.api.nodeman.endpoint import Endpoints
from app.api.nodeman.fields import (
    AnyObject,
    Anything,
    Asked,
    Flag,
    Id,
    Many,
    Name,
    Rows,
    Text,
    Whole,
)
from app.api.nodeman.routes_job import collect_log, retried_node
from app.api.nodeman.schemas import MAX_PAGE, Paged, statuses_of, window
from app.api.nodeman.schemas_job import Instances, NewLogin, OneInstance, new_logins
from app.domain.commands import RetryJob, RevokeJob
from app.domain.errors import InvalidRequest
from app.jobs.cancel import revoke_job
from app.jobs.job_queries import get_job_of_subscription, get_task_ids
from app.jobs.retry import retry_job
from app.jobs.target_queries import check_tasks, count_targets, get_target, list_targets
from app.jobs.views import JobView, TargetFilter

endpoints = Endpoints()
PREFIX = "/backend/api/subscription"


class OneSubscription(Asked):
    """The subscription."""

    subscription_id = Id(required=True)


class Tasks(OneSubscription):
    """Some tasks of a subscription."""

    task_id = Id(load_default=None)
    task_id_list = Many(Id(), load_default=None)


class RetrySubscription(Tasks, Instances):
    """What to try again; nothing named means every failed instance."""

    actions = AnyObject()
    hosts = Rows(NewLogin, load_default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> dict[str, Any]:
        return {
            **asked,
            "actions": _actions(asked["actions"]),
            "logins": new_logins(asked["hosts"]),
        }


class RevokeSubscription(OneSubscription, Instances):
    """What to stop; nothing named means all of it."""


class TaskResult(Tasks, Instances, Paged):
    """Which instances, and how much of each."""

    pagesize = Whole(least=-1, empty=-1, load_default=-1)
    page = Whole(least=1, most=MAX_PAGE, empty=1, load_default=1)
    statuses = Many(Text(), load_default=None)
    exclude_instance_ids = Many(Text(), load_default=None)
    need_detail = Flag()
    need_aggregate_all_tasks = Flag()
    need_out_of_scope_snapshots = Flag(default=True)
    return_all = Flag()


class TaskResultDetail(Tasks):
    """One instance."""

    instance_id = Name(most=256)


class ResultAnswer(fields.Field[Any]):
    """A bare list without paging, an object with it."""

    row = fields.Nested(answers_subscription.InstanceResult)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_more: Any) -> Any:
        schema = answers_subscription.InstanceResult(many=True)
        if isinstance(value, list):
            return schema.dump(value)
        return {**value, "list": schema.dump(value["list"])}


@endpoints.change(
    f"{PREFIX}/retry/",
    title="Try failed instances again",
    takes=RetrySubscription,
    gives=fields.Nested(answers_subscription.TaskStarted),
)
def retry(call: Call, asked: dict[str, Any]) -> dict[str, int]:
    job = _changing(call, asked["subscription_id"])
    command = RetryJob(
        subscription_id=job.subscription_id,
        instance_ids=tuple(asked["instance_id_list"] or ()),
        task_ids=_tasks(asked),
        actions=asked["actions"],
        logins=asked["logins"],
        created_by=call.actor,
    )
    return {"task_id": retry_job(call.ctx, command)}


@endpoints.change(
    f"{PREFIX}/revoke/",
    title="Stop what waits or runs",
    takes=RevokeSubscription,
    gives=Anything(allow_none=True),
)
def revoke(call: Call, asked: dict[str, Any]) -> None:
    job = _changing(call, asked["subscription_id"])
    names = tuple(asked["instance_id_list"] or ())
    revoke_job(call.ctx, RevokeJob(job_id=job.id, instance_ids=names, created_by=call.actor))


@endpoints.change(
    f"{PREFIX}/retry_node/",
    title="Run the failed step of one instance again",
    takes=TaskResultDetail,
    gives=fields.Nested(answers_job.RetriedNode),
)
def retry_node(call: Call, asked: dict[str, Any]) -> dict[str, str]:
    return retried_node(call, _changing(call, asked["subscription_id"]), asked["instance_id"])


@endpoints.read(
    f"{PREFIX}/check_task_ready/",
    title="Whether the tasks have been prepared; here they are as soon as they exist",
    takes=Tasks,
    gives=fields.Boolean(),
)
def check_task_ready(call: Call, asked: dict[str, Any]) -> bool:
    check_tasks(call.ctx, _visible(call, asked["subscription_id"]), _tasks(asked))
    return True


@endpoints.read(
    f"{PREFIX}/task_result/",
    title="The instances of a subscription's tasks",
    takes=TaskResult,
    gives=ResultAnswer(),
)
def task_result(call: Call, asked: dict[str, Any]) -> Any:
    job = _visible(call, asked["subscription_id"])
    wanted = _wanted(call, job, asked)
    page = list_targets(call.ctx, job, wanted, logs=asked["need_detail"])
    newest_first = [
        answers_subscription.instance_result(row, call.language, asked["need_detail"])
        for row in reversed(page.rows)
    ]
    if asked["pagesize"] == -1 and not asked["return_all"]:
        return newest_first
    return {
        "total": page.total,
        "list": newest_first,
        "status_counter": _counter(
            count_targets(call.ctx, job, replace(wanted, statuses=None, instance_ids=None))
        ),
    }


@endpoints.read(
    f"{PREFIX}/task_result_detail/",
    title="One instance, with its logs",
    takes=TaskResultDetail,
    gives=fields.Nested(answers_subscription.InstanceResult),
)
def task_result_detail(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    job = _visible(call, asked["subscription_id"])
    tasks = _tasks(asked)
    check_tasks(call.ctx, job, tasks)
    target = get_target(call.ctx, job, asked["instance_id"], tasks)
    return answers_subscription.instance_result(target, call.language, detail=True)


endpoints.change(
    f"{PREFIX}/collect_task_result_detail/",
    title="Fetch an instance's installer log; here it is in the log already",
    takes=OneInstance,
    gives=fields.Nested(answers_job.Collected),
)(collect_log)


def _visible(call: Call, subscription_id: int) -> JobView:
    job = get_job_of_subscription(call.ctx, subscription_id)
    require(call.caller, Role.VIEWER, job.business_ids, action=vocabulary.LOOK_AT_JOBS)
    return job


def _changing(call: Call, subscription_id: int) -> JobView:
    job = _visible(call, subscription_id)
    call.note(f"job {job.id}", job_id=job.id, subscription_id=subscription_id)
    return job


def _tasks(asked: Mapping[str, Any]) -> tuple[int, ...]:
    listed = [task for task in asked["task_id_list"] or () if task is not None]
    alone = [asked["task_id"]] if asked["task_id"] is not None else []
    return tuple(dict.fromkeys(listed or alone))


def _wanted(call: Call, job: JobView, asked: Mapping[str, Any]) -> TargetFilter:
    """Which targets: those of the named tasks, else of the newest one, else all current ones."""
    tasks = _tasks(asked)
    check_tasks(call.ctx, job, tasks)
    if not tasks and not asked["need_aggregate_all_tasks"]:
        tasks = tuple(get_task_ids(call.ctx, job.id)[-1:])
    skip, take = (0, None) if asked["return_all"] else window(asked)
    return TargetFilter(
        task_ids=None if asked["need_aggregate_all_tasks"] else frozenset(tasks),
        statuses=statuses_of(asked["statuses"]),
        instance_ids=frozenset(asked["instance_id_list"] or ()) or None,
        excluded_ids=frozenset(asked["exclude_instance_ids"] or ()) or None,
        failed_first=False,
        skip=skip,
        take=take,
    )


def _counter(counts: Mapping[Any, int]) -> dict[str, int]:
    named = {vocabulary.STATUS[status]: number for status, number in counts.items()}
    return {**named, "total": sum(counts.values())}


def _actions(asked: Any) -> dict[str, str]:
    if asked in (None, ""):
        return {}
    if not isinstance(asked, dict) or not all(isinstance(name, str) for name in asked.values()):
        raise InvalidRequest("actions must map step ids to action names.", field="actions")
    return asked
