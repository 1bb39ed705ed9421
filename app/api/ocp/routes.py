"""/api/v2/tasks/…: look at tasks, and operate on them (contracts/ocp-tasks.md §1)."""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, send_file

from app.access.caller import Role, require
from app.api.auth import Call
from app.api.dialect import Dialect
from app.api.ocp import answers, schemas, vocabulary
from app.api.ocp.endpoint import Endpoints
from app.api.ocp.envelope import render_error, start_clock
from app.domain.catalogue import Title
from app.domain.errors import HostlerError, WrongState
from app.domain.states import SubtaskStatus, TaskStatus
from app.jobs.cancel import abort_task, cancel_subtask
from app.jobs.confirm import confirm_task
from app.jobs.graph_log import attempt_logs, read_log
from app.jobs.graph_queries import (
    find_failed_hosts,
    get_subtask,
    get_task,
    get_task_outline,
)
from app.jobs.graph_views import SubtaskView, TaskFilter, TaskView
from app.jobs.retry import retry_subtask, retry_task
from app.jobs.rollback import roll_back_task
from app.jobs.skip import skip_subtask
from app.jobs.task_queries import find_creators, find_tasks

OWN = re.compile(r"^/api/v[12]/tasks(/|$)")
OCP = Dialect(name="ocp", owns=lambda path: OWN.match(path) is not None, render_error=render_error)
FAILED = vocabulary.TASK_STATUS[TaskStatus.FAILED]
SPOOLED = 8 << 20  # bytes of a diagnosis kept in memory

TASK = "/tasks/instances/<task_id>"
SUBTASK = f"{TASK}/subtasks/<subtask_id>"

endpoints = Endpoints()


def create_blueprint() -> Blueprint:
    """Everything this language serves."""
    blueprint = Blueprint("ocp", __name__)
    blueprint.before_app_request(start_clock)
    endpoints.register(blueprint)
    return blueprint


# --- Looking ------------------------------------------------------------------------------------


@endpoints.read("/tasks/instances", title="Tasks", takes=schemas.TaskQuery, gives=schemas.TaskPage)
def instances(call: Call, asked: tuple[TaskFilter, int, int]) -> dict[str, Any]:
    wanted, page, size = asked
    found = find_tasks(call.ctx, replace(wanted, visible=call.caller.businesses))
    return answers.task_page(found, page, size)


@endpoints.read("/tasks/instances/creators", title="Who made tasks", gives=schemas.Names)
def creators(call: Call, _asked: Any) -> dict[str, Any]:
    return {"contents": find_creators(call.ctx, call.caller.businesses)}


@endpoints.read(TASK, "/tasks/<task_id>", title="A task with its graph", gives=schemas.WrappedTask)
def instance(call: Call, _asked: Any, task_id: int) -> dict[str, Any]:
    return answers.wrapped_task(_whole_task(call, task_id), call.language)


@endpoints.read(
    SUBTASK, title="A subtask, and the hosts it failed on", gives=schemas.SubtaskInstance
)
def subtask(call: Call, _asked: Any, task_id: int, subtask_id: int) -> dict[str, Any]:
    task, found = _seen_subtask(call, task_id, subtask_id)
    failed = find_failed_hosts(call.ctx, subtask_id)
    return answers.subtask_instance(found, task, call.language, failed)


@endpoints.read(
    f"{SUBTASK}/log", title="What a subtask said", takes=schemas.LogQuery, gives=schemas.Log
)
def log(call: Call, asked: dict[str, Any], task_id: int, subtask_id: int) -> dict[str, Any]:
    task, found = _seen_subtask(call, task_id, subtask_id)
    some = read_log(call.ctx, subtask_id, **asked)
    return {
        "log": some.text,
        "offset": some.offset,
        "nextOffset": some.next_offset,
        "size": some.size,
        "complete": some.next_offset >= some.size and answers.is_final(task, found),
    }


@endpoints.change(
    f"{TASK}/downloadDiagnosis",
    title="A task's graph and logs as a zip file",
    role=Role.VIEWER,
    once=False,  # it changes nothing, and the file is large
)
def download_diagnosis(call: Call, _asked: Any, task_id: int) -> Response:
    call.note(f"task {task_id}", task_id=task_id)
    task = _whole_task(call, task_id)
    file = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115 - send_file closes it
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("task_info.txt", "".join(map(_diagnosis_line, task.in_order())))
        for node in task.subtasks:
            for attempt in attempt_logs(call.ctx, node.id):
                archive.writestr(f"subtask_{node.id}_{attempt.number}.log", attempt.content)
    file.seek(0)
    response = send_file(
        file,
        mimetype="application/zip",
        as_attachment=True,
        download_name=f"task_{task_id}_diagnosis.zip",
    )
    response.call_on_close(file.close)
    return response


def _diagnosis_line(node: SubtaskView) -> str:
    state = vocabulary.SUBTASK_STATUS[node.status]
    return f"{node.id}, {node.name}, {state}, upstreams: {list(node.upstreams)}\n"


# --- Operating on a task ------------------------------------------------------------------------


@endpoints.change(
    f"{TASK}/retry", title="Run every failed subtask again", gives=schemas.WrappedTask
)
def retry(call: Call, _asked: Any, task_id: int) -> dict[str, Any]:
    with _operation(call, task_id, needs=FAILED):
        retry_task(call.ctx, task_id, call.actor)
    return answers.wrapped_task(get_task(call.ctx, task_id), call.language)


@endpoints.change(
    f"{TASK}/rollback", title="Take back what a failed task did", gives=schemas.WrappedTask
)
def rollback(call: Call, _asked: Any, task_id: int) -> dict[str, Any]:
    with _operation(call, task_id, needs=FAILED):
        roll_back_task(call.ctx, task_id, call.actor)
    return answers.wrapped_task(get_task(call.ctx, task_id), call.language)


@endpoints.change(
    f"{TASK}/abort",
    title="Accept that a task failed: nothing of it will run any more",
    takes=schemas.Noted,
    gives=schemas.WrappedTask,
)
def abort(call: Call, asked: dict[str, Any], task_id: int) -> dict[str, Any]:
    with _operation(call, task_id, needs=FAILED, **asked):
        abort_task(call.ctx, task_id, call.actor, **asked)
    return answers.wrapped_task(get_task(call.ctx, task_id), call.language)


@endpoints.change(
    f"{TASK}/confirm",
    title="Let a rollout that waits for a person go on",
    takes=schemas.Noted,
    gives=schemas.WrappedTask,
)
def confirm(call: Call, asked: dict[str, Any], task_id: int) -> dict[str, Any]:
    with _operation(call, task_id, **asked):
        confirm_task(call.ctx, task_id, call.actor, **asked)
    return answers.wrapped_task(get_task(call.ctx, task_id), call.language)


# --- Operating on a subtask ---------------------------------------------------------------------


@endpoints.change(
    f"{TASK}/subtasks/retry",
    title="Run several failed subtasks again",
    takes=schemas.Chosen,
    gives=schemas.Retried,
)
def retry_many(call: Call, chosen: tuple[int, ...] | None, task_id: int) -> dict[str, Any]:
    with _operation(call, task_id):
        if chosen is None:
            whole = get_task(call.ctx, task_id)
            chosen = tuple(s.id for s in whole.subtasks if s.status is SubtaskStatus.FAILED)
        call.note(f"task {task_id}", subtask_ids=list(chosen))
        return {"contents": [_try_again(call, task_id, subtask_id) for subtask_id in chosen]}


def _try_again(call: Call, task_id: int, subtask_id: int) -> dict[str, Any]:
    try:
        with _about(vocabulary.subtask_subject(subtask_id)):
            retry_subtask(call.ctx, task_id, subtask_id, call.actor)
    except HostlerError as error:
        reason = vocabulary.fault_of(error, call.language).message
        return {"id": subtask_id, "accepted": False, "reason": reason}
    return {"id": subtask_id, "accepted": True}


@endpoints.change(
    f"{SUBTASK}/retry", title="Run a failed subtask again", gives=schemas.SubtaskInstance
)
def retry_one(call: Call, _asked: Any, task_id: int, subtask_id: int) -> dict[str, Any]:
    with _operation(call, task_id, subtask_id):
        retry_subtask(call.ctx, task_id, subtask_id, call.actor)
    task, found = get_subtask(call.ctx, task_id, subtask_id)
    return answers.subtask_instance(found, task, call.language)


@endpoints.change(
    f"{SUBTASK}/skip", title="Go on without the hosts a subtask failed on", takes=schemas.Noted
)
def skip(call: Call, asked: dict[str, Any], task_id: int, subtask_id: int) -> None:
    with _operation(call, task_id, subtask_id, **asked):
        skip_subtask(call.ctx, task_id, subtask_id, call.actor, **asked)


@endpoints.change(
    f"{SUBTASK}/cancel", title="Stop a subtask, and prove that it stopped", takes=schemas.Noted
)
def cancel(call: Call, asked: dict[str, Any], task_id: int, subtask_id: int) -> None:
    with _operation(call, task_id, subtask_id, **asked):
        cancel_subtask(call.ctx, task_id, subtask_id, call.actor, **asked)


# --- Shared by these views ----------------------------------------------------------------------


def _whole_task(call: Call, task_id: int) -> TaskView:
    """That task, for a caller who may see all of its businesses."""
    task = get_task(call.ctx, task_id)
    require(call.caller, Role.VIEWER, task.business_ids)
    return task


def _seen_subtask(call: Call, task_id: int, subtask_id: int) -> tuple[TaskView, SubtaskView]:
    outline = get_task_outline(call.ctx, task_id)
    require(call.caller, Role.VIEWER, outline.business_ids)
    return get_subtask(call.ctx, task_id, subtask_id)


@contextmanager
def _operation(
    call: Call, task_id: int, subtask_id: int | None = None, *, needs: str = "", **details: Any
) -> Iterator[None]:
    """Whoever operates here may, it exists, and a refusal says what was refused."""
    name = f"task {task_id}" if subtask_id is None else f"subtask {subtask_id}"
    ids = {"task_id": task_id} | ({} if subtask_id is None else {"subtask_id": subtask_id})
    call.note(name, **ids, **{key: value for key, value in details.items() if value})
    task = get_task_outline(call.ctx, task_id)
    require(call.caller, Role.OPERATOR, task.business_ids)
    if subtask_id is not None:
        get_subtask(call.ctx, task_id, subtask_id)
        subject = vocabulary.subtask_subject(subtask_id)
    else:
        subject = vocabulary.task_subject(task_id)
    with _about(subject, needs):
        yield


@contextmanager
def _about(subject: Title, needs: str = "") -> Iterator[None]:
    """A refusal for its state says whose state, and which state would do."""
    try:
        yield
    except WrongState as error:
        error.details.setdefault("subject", subject)
        if needs and error.details.get("state") != needs:
            error.details["allowed"] = [needs]
        raise
