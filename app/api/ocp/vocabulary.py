"""The word tables of this language: states, operations, and error classes with their codes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.access.caller import Role
from app.api.callers import NotFromHere, WrongPassword
from app.domain import errors
from app.domain.catalogue import Title
from app.domain.graph import ABORTED, Capability
from app.domain.states import Direction, Operation, SubtaskStatus, TaskStatus
from app.jobs.graph_views import TaskView

TASK_STATUS = {
    TaskStatus.RUNNING: "RUNNING",
    TaskStatus.FAILED: "FAILED",
    TaskStatus.SUCCESSFUL: "SUCCESSFUL",
}
SUBTASK_STATUS = {
    SubtaskStatus.PENDING: "PENDING",
    SubtaskStatus.READY: "READY",
    SubtaskStatus.RUNNING: "RUNNING",
    SubtaskStatus.CANCELING: "CANCELING",
    SubtaskStatus.FAILED: "FAILED",
    SubtaskStatus.SUCCESSFUL: "SUCCESSFUL",
}
OPERATION = {
    Operation.EXECUTE: "EXECUTE",
    Operation.RETRY: "RETRY",
    Operation.SKIP: "SKIP",
    Operation.ROLLBACK: "ROLLBACK",
    Operation.CANCEL: "CANCEL",
}
DIRECTION = {Direction.FORWARD: "FORWARD", Direction.BACK: "BACK"}
TASK_STATUS_OF = {word: status for status, word in TASK_STATUS.items()}

PERMISSION = {
    Role.VIEWER: "TASK_VIEWER",
    Role.OPERATOR: "TASK_MANAGER",
    Role.ADMIN: "ADMIN",
}

MANUAL = "MANUAL"  # every task of ours was asked for by somebody
# both spellings of the second are in the field
TYPES = frozenset({MANUAL, "SYS_ONECE", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED"})
NODE_TYPE = "ANSIBLE_TASK"

# how callers name the columns a list can be sorted by
SORT_FIELDS = {
    "id": "id",
    "name": "name",
    "status": "status",
    "operation": "operation",
    "creator": "created_by",
    "createTime": "created_at",
    "startTime": "started_at",
    "finishTime": "finished_at",
}


class Unsortable(errors.InvalidRequest):
    """This list cannot be sorted by that field."""


@dataclass(frozen=True)
class Fault:
    """An error as this language puts it."""

    status: int
    code: str
    message: str
    sub_errors: tuple[Mapping[str, Any], ...] = field(default=())


Sentence = Callable[[errors.HostlerError], Title]


def _own(error: errors.HostlerError) -> Title:
    return Title(error.message, error.message)


def _fixed(en: str, zh: str) -> Sentence:
    return lambda _error: Title(en, zh)


def _with_own(zh: str) -> Sentence:
    """Our own sentence in English; in Chinese with what it is about in front."""
    return lambda error: Title(error.message, f"{zh}：{error.message}")


def _unknown_task(error: errors.HostlerError) -> Title:
    task = error.details.get("id", error.details.get("task_id", ""))
    return Title(f"There is no task instance {task}.", f"任务实例 {task} 不存在。")


def _unknown_subtask(error: errors.HostlerError) -> Title:
    task = error.details.get("task_id", "")
    subtask = error.details.get("id", error.details.get("subtask_id", ""))
    return Title(
        f"Task instance {task} has no subtask instance {subtask}.",
        f"任务实例 {task} 中不存在子任务实例 {subtask}。",
    )


def _wrong_state(error: errors.HostlerError) -> Title:
    """What is, and what would have to be; the core's own sentence where it said neither."""
    state, allowed = error.details.get("state"), error.details.get("allowed")
    if error.message == ABORTED:
        return ABORTED_TASK
    if state is None:
        return _own(error)
    subject = error.details.get("subject") or Title("This", "当前对象")
    if not allowed:
        return Title(
            error.message, f"{subject.zh}状态为 {_word(state)}，不支持该操作：{error.message}"
        )
    states = list(map(_word, _each(allowed)))
    return Title(
        f"{subject.en} is {_word(state)}; this operation needs {' or '.join(states)}.",
        f"{subject.zh}状态为 {_word(state)}，该操作仅支持以下状态：{'、'.join(states)}。",
    )


def _each(values: Any) -> Iterable[Any]:
    return (values,) if isinstance(values, str) else values


def _word(value: Any) -> str:
    return str(getattr(value, "value", value)).upper()


def _held(error: errors.HostlerError) -> Title:
    held_by = error.details.get("held_by", "")
    task = ", ".join(map(str, held_by)) if isinstance(held_by, list | tuple) else str(held_by)
    return Title(
        f"A newer task has these hosts: {task}; operate on that one.",
        f"这些主机已由更新的任务 {task} 接管，请对该任务进行操作。",
    )


def _missing_role(error: errors.HostlerError) -> Title:
    role, businesses = error.details.get("role"), error.details.get("businesses")
    if role:
        permission = PERMISSION[Role(role)]
        return Title(
            f"This takes {permission}. {error.message}", f"没有权限，该操作需要 {permission} 权限。"
        )
    if businesses:
        named = ", ".join(map(str, businesses))
        return Title(error.message, f"没有集群 {named} 的访问权限。")
    return _own(error)


# error class → HTTP status, code and sentence; the nearest ancestor in the table counts
ERRORS: Mapping[type[errors.HostlerError], tuple[int, str, Sentence]] = {
    errors.HostlerError: (500, "COM10999", _own),
    errors.InvalidRequest: (400, "COM10001", _with_own("参数错误")),
    errors.BodyTooLarge: (413, "COM10001", _with_own("请求体过大")),
    Unsortable: (400, "COM10011", _with_own("不支持的排序字段")),
    errors.Unauthenticated: (401, "IAM10000", _with_own("认证失败")),
    WrongPassword: (401, "IAM10004", _with_own("用户名或密码错误")),
    errors.Forbidden: (403, "IAM11000", _missing_role),
    NotFromHere: (403, "IAM11000", _with_own("跨站请求校验失败")),
    errors.NotFound: (404, "TSK10001", _with_own("不存在")),
    errors.TaskNotFound: (404, "TSK10001", _unknown_task),
    errors.SubtaskNotFound: (404, "TSK10001", _unknown_subtask),
    errors.Conflict: (409, "COM10005", _with_own("请求冲突")),
    errors.HostsBusy: (409, "COM10005", _with_own("主机正被其他任务占用")),
    errors.WrongState: (400, "TSK10007", _wrong_state),
    errors.HeldByNewerTask: (400, "TSK10007", _held),
    errors.NothingToRetry: (400, "TSK10007", _with_own("没有可重试的内容")),
    errors.NothingToStop: (400, "TSK10007", _with_own("没有可取消的内容")),
    errors.NotReady: (400, "TSK10007", _with_own("任务正在准备")),
    errors.RollbackProhibited: (
        400,
        "TSK10009",
        _fixed(
            "This task cannot be rolled back: something it did cannot be taken back.",
            "该任务禁止回滚：其中已执行的步骤无法撤销。",
        ),
    ),
    errors.PreconditionFailed: (400, "TSK10004", _with_own("前置条件不满足")),
    errors.Unavailable: (503, "COM10999", _with_own("服务暂不可用")),
}

UNEXPECTED = Title(
    "Something broke on our side; the log has it under this trace id.",
    "服务内部错误，可凭 traceId 在日志中查找。",
)
WRONG_METHOD = Title(
    "This address takes {allowed}, not {method}.", "该地址支持 {allowed} 方法，不支持 {method}。"
)
UNKNOWN_ADDRESS = Title("There is nothing at this address.", "该地址不存在。")
LOCKED = "IAM10006"


def fault_of(error: errors.HostlerError, language: str) -> Fault:
    """The status, the code and the sentence for an error."""
    kind = next(kind for kind in type(error).__mro__ if kind in ERRORS)
    status, code, sentence = ERRORS[kind]
    if error.details.get("locked"):
        code = LOCKED
    return Fault(status, code, sentence(error).in_language(language), _wrong_fields(error))


def _wrong_fields(error: errors.HostlerError) -> tuple[Mapping[str, Any], ...]:
    problems = error.details.get("problems")
    if problems is None and "field" in error.details:
        problems = [(error.details["field"], error.details.get("value"), error.message)]
    return tuple(_wrong_field(*problem) for problem in problems or ())


def _wrong_field(name: str, rejected: Any, message: str) -> Mapping[str, Any]:
    found = {"object": "request", "field": name, "rejectedValue": rejected, "message": message}
    return {key: value for key, value in found.items() if value is not None}


def task_subject(task_id: int) -> Title:
    """What a refusal calls this task."""
    return Title(f"Task instance {task_id}", f"任务实例 {task_id} ")


def subtask_subject(subtask_id: int) -> Title:
    """What a refusal calls this subtask."""
    return Title(f"Subtask instance {subtask_id}", f"子任务实例 {subtask_id} ")


# --- Why something may not be done now ----------------------------------------------------------

ABORTED_TASK = Title(ABORTED, "该任务已终止：失败已被接受，不再执行任何操作，请新建任务。")
PROHIBITED = Title(
    "A step of this task that has begun cannot be taken back.", "该任务中已执行的步骤无法撤销。"
)
WAITS_FOR_NOBODY = Title("It does not wait for a person.", "该任务没有在等待人工确认。")
STILL_DUE = Title("It is still to be taken back.", "该步骤仍在等待回滚。")


def held_by(newer_task_id: int | None) -> Title:
    """Why nothing here can be tried again, though something failed."""
    if newer_task_id is None:
        return STILL_DUE
    return Title(
        f"Task {newer_task_id} has its failed hosts now.",
        f"失败的主机已由任务 {newer_task_id} 接管。",
    )


def stopped(why: str) -> Title:
    """Why a wave that has not begun cannot be tried by itself."""
    return Title(
        f"The rollout stopped before it: {why}; retry or skip what failed first.",
        f"发布已在此之前停止：{why}；请先重试或跳过失败的步骤。",
    )


def subtask_refusal(found: Capability, operation: Operation, status: SubtaskStatus) -> Title:
    """Why this may not be done to a subtask in that state."""
    if not found.allowed_states:
        return ABORTED_TASK
    states = [SUBTASK_STATUS[state] for state in found.allowed_states]
    return _needs(OPERATION[operation], SUBTASK_STATUS[status], states)


def task_refusal(task: TaskView, operation: str) -> Title:
    """Why this may not be done to a task in that state."""
    if task.is_aborted:
        return ABORTED_TASK
    if task.status is TaskStatus.FAILED:
        return PROHIBITED
    return _needs(operation.upper(), TASK_STATUS[task.status], [TASK_STATUS[TaskStatus.FAILED]])


def _needs(operation: str, state: str, states: list[str]) -> Title:
    return Title(
        f"{operation} needs {' or '.join(states)}; it is {state}.",
        f"{operation} 仅支持以下状态：{'、'.join(states)}；当前状态为 {state}。",
    )
