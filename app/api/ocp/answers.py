"""What callers get back: tasks and subtasks in this language; what is null is left out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from app.api.ocp import vocabulary
from app.domain.catalogue import Title
from app.domain.graph import Capability, subtask_capability, task_capability
from app.domain.states import Direction, Operation, Status, SubtaskStatus, TaskStatus
from app.jobs.graph_views import AttemptView, HostView, SubtaskView, TaskView
from app.jobs.views import Page

SUBTASK_OPERATIONS = (Operation.RETRY, Operation.SKIP, Operation.CANCEL)
TASK_OPERATIONS = {
    "retry": Operation.RETRY,
    "rollback": Operation.ROLLBACK,
    "abort": Operation.CANCEL,
}


# --- Lists --------------------------------------------------------------------------------------


def task_page(page: Page, number: int, size: int) -> dict[str, Any]:
    """`data` of the list."""
    return {
        "contents": [basic_task(task) for task in page.rows],
        "page": {
            "number": number,
            "size": size,
            "totalElements": page.total,
            "totalPages": -(-page.total // size),
        },
    }


def basic_task(task: TaskView) -> dict[str, Any]:
    """A task as lists show it."""
    return _task(task) | {"subtasks": [_basic_subtask(subtask) for subtask in task.subtasks]}


def _basic_subtask(subtask: SubtaskView) -> dict[str, Any]:
    return {
        "id": subtask.id,
        "name": subtask.name,
        "description": subtask.name,
        "status": vocabulary.SUBTASK_STATUS[subtask.status],
        "operation": vocabulary.OPERATION[subtask.operation],
    }


def _task(task: TaskView) -> dict[str, Any]:
    clusters = [_cluster(*business) for business in task.businesses]
    return _present(
        {
            "id": task.id,
            "name": task.name,
            "cluster": clusters[0] if clusters else None,
            "clusters": clusters if len(clusters) > 1 else None,
            "creator": _present({"id": task.creator_id, "name": task.created_by}),
            "status": vocabulary.TASK_STATUS[task.status],
            "type": vocabulary.MANUAL,
            "operation": vocabulary.OPERATION[task.operation],
            "createTime": _second(task.created_at),
            "startTime": _moment(task.started_at),
            "finishTime": _moment(task.finished_at),
            "jobId": task.job_id,
        }
    )


def _cluster(business_id: int, name: str) -> dict[str, Any]:
    return {"id": business_id, "name": name, "obClusterId": business_id, "type": "PRIMARY"}


# --- Whole tasks and subtasks -------------------------------------------------------------------


def wrapped_task(task: TaskView, language: str) -> dict[str, Any]:
    """`data` of the detail."""
    return _present(
        _task(task)
        | {
            "taskDefinitionId": -1,
            "executor": task.executor,
            "prohibitRollback": task.prohibits_rollback,
            "direction": vocabulary.DIRECTION[task.direction],
            "newerTaskId": task.newer_task_id,
            "aborted": task.is_aborted or None,
            "rollout": _rollout(task) if task.waves else None,
            "capabilities": _task_capabilities(task, language),
            "subtasks": [subtask_instance(s, task, language) for s in task.subtasks],
        }
    )


def subtask_instance(
    subtask: SubtaskView,
    task: TaskView,
    language: str,
    failed_hosts: Sequence[HostView] | None = None,
) -> dict[str, Any]:
    """A subtask with its place in the graph and what may be done to it now."""
    shown = _basic_subtask(subtask) | {
        "seriesId": subtask.series,
        "timeout": subtask.timeout,
        "runTime": subtask.attempt,
        "createTime": _second(subtask.created_at),
        "nodeType": vocabulary.NODE_TYPE,
        "parallelIdx": subtask.slice,
        "upstreams": subtask.upstreams,
        "downstreams": subtask.downstreams,
        "prohibitRollback": subtask.prohibits_rollback,
        "direction": vocabulary.DIRECTION[subtask.direction],
        "capabilities": _capabilities(subtask, task, language),
        "hosts": _hosts(subtask.hosts),
        "history": [_attempt(attempt) for attempt in subtask.attempts],
    }
    if task.waves:
        shown["wave"] = subtask.wave
    if subtask.executor:
        shown["executor"] = subtask.executor
    if subtask.started_at:
        shown["startTime"] = _moment(subtask.started_at)
    if subtask.finished_at and subtask.status in ENDED:
        shown["finishTime"] = _moment(subtask.finished_at)
    if subtask.causes:
        shown["causes"] = {cause.value: number for cause, number in subtask.causes.items()}
    if failed_hosts is not None:
        shown["failedHosts"] = [_failed_host(host) for host in failed_hosts]
    return shown


ENDED = frozenset({SubtaskStatus.FAILED, SubtaskStatus.SUCCESSFUL, SubtaskStatus.PENDING})


def _hosts(counts: Mapping[Status, int]) -> dict[str, int]:
    return {"total": sum(counts.values())} | {s.value: n for s, n in counts.items() if n}


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return _present(
        {
            "runTime": attempt.number,
            "operation": vocabulary.OPERATION[attempt.operation],
            "direction": vocabulary.DIRECTION[attempt.direction],
            "status": attempt.status.value.upper(),
            "outcome": attempt.outcome or None,
            "createTime": _second(attempt.created_at),
            "startTime": _moment(attempt.started_at),
            "finishTime": _moment(attempt.finished_at),
            "logSize": attempt.log_size,
        }
    )


def _failed_host(host: HostView) -> dict[str, Any]:
    return _present(
        {
            "hostId": host.host_id,
            "address": host.label,
            "status": host.status.value.upper(),
            "cause": host.cause.value if host.cause else None,
            "reason": host.reason,
        }
    )


def _rollout(task: TaskView) -> dict[str, Any]:
    return _present(
        {
            "waves": task.waves,
            "openWave": task.open_wave,
            "nextWaveTime": _moment(task.next_wave_at),
            "waitsForPerson": task.waits_for_person,
        }
    )


def _task_capabilities(task: TaskView, language: str) -> dict[str, Any]:
    may = {}
    for name, operation in TASK_OPERATIONS.items():
        prohibited = operation is Operation.ROLLBACK and task.prohibits_rollback
        capability = task_capability(
            operation, task.status, task.direction, prohibited, is_aborted=task.is_aborted
        )
        may[name] = _may(capability, vocabulary.task_refusal(task, name), language)
    held = _refused(vocabulary.held_by(task.newer_task_id), language)
    if may["retry"]["allowed"] and not any(s.retryable for s in task.subtasks):
        may["retry"] = held
    if may["rollback"]["allowed"] and not task.holds_hosts:
        may["rollback"] = held
    if task.waits_for_person and not task.is_aborted:
        return may | {"confirm": {"allowed": True}}
    return may | {"confirm": _refused(vocabulary.WAITS_FOR_NOBODY, language)}


def _capabilities(subtask: SubtaskView, task: TaskView, language: str) -> dict[str, Any]:
    may = _by_state(subtask.status, task.direction, task.is_aborted, language)
    if subtask.status is SubtaskStatus.FAILED and not (subtask.retryable or task.is_aborted):
        held = _refused(vocabulary.held_by(task.newer_task_id), language)
        return may | {"retry": held, "skip": held}
    if task.stops and subtask.wave > task.open_wave and may["retry"]["allowed"]:
        return may | {"retry": _refused(vocabulary.stopped(task.stops), language)}
    return may


@cache
def _by_state(
    status: SubtaskStatus, direction: Direction, is_aborted: bool, language: str
) -> dict[str, Any]:
    # a thousand subtasks share these few answers
    may = {}
    for operation in SUBTASK_OPERATIONS:
        found = subtask_capability(operation, status, direction, is_aborted=is_aborted)
        why = vocabulary.subtask_refusal(found, operation, status)
        may[operation.value] = _may(found, why, language)
    return may


def _may(capability: Capability, refusal: Title, language: str) -> dict[str, Any]:
    if capability.allowed:
        return {"allowed": True}
    states = [vocabulary.SUBTASK_STATUS[state] for state in capability.allowed_states]
    return _refused(refusal, language) | ({"allowedStates": states} if states else {})


def _refused(why: Title, language: str) -> dict[str, Any]:
    return {"allowed": False, "reason": why.in_language(language)}


def is_final(task: TaskView, subtask: SubtaskView) -> bool:
    """Whether nothing more will be written about this subtask unless somebody asks for it."""
    return task.status is not TaskStatus.RUNNING and subtask.status in ENDED


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(at: datetime | None) -> str | None:
    return at.astimezone().isoformat(timespec="milliseconds") if at else None


def _second(at: datetime) -> str:
    return at.astimezone().isoformat(timespec="seconds")
