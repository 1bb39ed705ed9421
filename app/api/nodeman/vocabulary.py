"""The word tables of this language: states, job types, and error classes with their codes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.api.auth import NoCredentials
from app.domain import errors
from app.domain.catalogue import CATALOGUE, NodeKind, Title
from app.domain.commands import FilteredHost
from app.domain.states import JobStatus, Status
from app.hosts.update import AddressTaken, NotYourHost

PLATFORM = 3_800_000
CHANGE_HOSTS = "agent_operate"  # what the original's permission system calls what was denied (§7)
LOOK_AT_JOBS = "task_history_view"
UNEXPECTED = 50_000
DENIED = 9900403  # a number: clients compare it with one (nodeman-clients.md §7.9)
SYSTEM = "bk_nodeman"

STATUS = {
    Status.PENDING: "PENDING",
    Status.RUNNING: "RUNNING",
    Status.SUCCESS: "SUCCESS",
    Status.FAILED: "FAILED",
    Status.IGNORED: "IGNORED",
}
JOB_STATUS = {
    JobStatus.PENDING: "PENDING",
    JobStatus.RUNNING: "RUNNING",
    JobStatus.SUCCESS: "SUCCESS",
    JobStatus.FAILED: "FAILED",
    JobStatus.PART_FAILED: "PART_FAILED",
    JobStatus.TERMINATED: "TERMINATED",
}
STATUS_OF = {word: status for status, word in STATUS.items()}
JOB_STATUS_OF = {word: status for status, word in JOB_STATUS.items()}

STATUS_TITLE = {
    Status.PENDING: Title("waiting", "等待执行"),
    Status.RUNNING: Title("running", "正在执行"),
    Status.SUCCESS: Title("succeeded", "执行成功"),
    Status.FAILED: Title("failed", "执行失败"),
    Status.IGNORED: Title("ignored", "已忽略"),
}
AGENT_STATUS_TITLE = {
    "RUNNING": Title("running", "正常"),
    "UNKNOWN": Title("unknown", "未知"),
    "TERMINATED": Title("abnormal", "异常"),
    "NOT_INSTALLED": Title("not installed", "未安装"),
    "REMOVED": Title("removed", "已移除"),
    "MANUAL_STOP": Title("stopped by hand", "手动停止"),
}
AUTOMATIC = Title("Choose automatically", "自动选择")
UNKNOWN_ADDRESS = Title(
    "There is nothing at {path}; /openapi.json names every address.",
    "地址 {path} 不存在，所有可用地址见 /openapi.json。",
)
WRONG_METHOD = Title(
    "{path} takes {allowed}, not {method}.", "{path} 支持 {allowed} 方法，不支持 {method}。"
)

OPERATION_TITLE = {
    "INSTALL": Title("Install", "安装"),
    "REINSTALL": Title("Reinstall", "重装"),
    "UPGRADE": Title("Upgrade", "升级"),
    "RESTART": Title("Restart", "重启"),
    "RELOAD": Title("Reload", "重载配置"),
    "ACTIVATE": Title("Activate", "切换配置"),
    "UNINSTALL": Title("Uninstall", "卸载"),
    "REMOVE": Title("Remove", "移除"),
    "IMPORT": Title("Import", "导入"),
    "REPLACE": Title("Replace", "替换"),
    "MANUAL_INSTALL": Title("Install by hand", "手动安装"),
}
NODE_TITLE = {"AGENT": "Agent", "PROXY": "Proxy", "PLUGIN": "Plugin"}
JOB_TYPE = {name: job_type.title for name, job_type in CATALOGUE.items()}

# how a host's address is written: which one, and what stands around it
ADDRESSES = {
    "inner_ip": ("inner_ip", "{address}"),
    "inner_ipv6": ("inner_ipv6", "{address}"),
    "cloud_ipv4": ("inner_ip", "{zone_id}:{address}"),
    "cloud_ipv6": ("inner_ipv6", "{zone_id}:[{address}]"),
    "cloud_ipv4_with_brackets": ("inner_ip", "{zone_id}:[{address}]"),
}

# what the published builds are called; here each of them means the newest ready package
NEWEST = frozenset({"", "legacy", "stable", "latest"})


def job_title(name: str, language: str) -> str:
    """A job type's name for people; one we no longer have keeps its own."""
    return JOB_TYPE[name].in_language(language) if name in JOB_TYPE else name


def operation_title(name: str, language: str) -> str:
    """An operation's name for people; an unknown one keeps its own."""
    title = OPERATION_TITLE.get(name)
    return title.in_language(language) if title else name


def job_meta(name: str, language: str) -> dict[str, Any]:
    """How the task history groups a job."""
    node, operation = NodeKind.AGENT.value, name  # of a job type we no longer have
    if job_type := CATALOGUE.get(name):
        node, operation = job_type.node.value, job_type.operation
    return {
        "type": "AGENT",
        "step_type": node,
        "op_type": operation,
        "op_type_display": operation_title(operation, language),
        "step_type_display": NODE_TITLE[node],
    }


@dataclass(frozen=True)
class Fault:
    """An error as this language puts it."""

    code: int | str
    message: str
    data: Any = None
    errors: Any = None


Data = Callable[[errors.HostlerError], Any]


def _nothing(_error: errors.HostlerError) -> Any:
    return None


PLACES: Mapping[type[errors.HostlerError], str] = {
    errors.ZoneNotFound: "bk_cloud_id",
    errors.AccessPointNotFound: "ap_id",
    errors.InstallChannelNotFound: "install_channel_id",
}


def _fields(error: errors.HostlerError) -> Any:
    """Which fields are wrong, as clients of serializers know it."""
    if found := error.details.get("errors"):
        return found
    field = error.details.get("field") or PLACES.get(type(error))
    return {field: [error.message]} if field else None


def _left_out(error: errors.HostlerError) -> Any:
    filtered = error.details.get("filtered", ())
    return {"job_id": None, "ip_filter": [filtered_host(host) for host in filtered]}


def _hosts(error: errors.HostlerError) -> Any:
    hosts = error.details.get("hosts")
    return {"hosts": hosts} if hosts is not None else None


def _left_out_and_hosts(error: errors.HostlerError) -> Any:
    return _left_out(error) | (_hosts(error) or {})


def _permission(error: errors.HostlerError) -> Any:
    action = str(error.details.get("action", CHANGE_HOSTS))
    return {
        "permission": {
            "system_id": SYSTEM,
            "system_name": "Hostler",
            "actions": [{"id": action, "name": action, "related_resource_types": []}],
        },
        "apply_url": "",
    }


# error class → its code and what goes into data; the nearest ancestor in the table counts
ERRORS: Mapping[type[errors.HostlerError], tuple[int | str, Data]] = {
    errors.HostlerError: (PLATFORM + 500, _nothing),
    errors.InvalidRequest: (PLATFORM + 1, _nothing),
    errors.BodyTooLarge: (PLATFORM + 1, _nothing),
    errors.Unauthenticated: (PLATFORM + 17, _nothing),
    errors.Forbidden: (DENIED, _permission),
    errors.NotFound: (PLATFORM + 404, _nothing),
    errors.JobNotFound: (PLATFORM + 1012, _nothing),
    errors.HostNotFound: (PLATFORM + 1010, _nothing),
    errors.InstanceNotFound: (PLATFORM + 7, _nothing),
    errors.ZoneNotFound: (PLATFORM + 1001, _nothing),
    errors.AccessPointNotFound: (PLATFORM + 1007, _nothing),
    errors.InstallChannelNotFound: (PLATFORM + 1037, _nothing),
    errors.SubscriptionNotFound: (PLATFORM + 1, _nothing),
    errors.TaskNotFound: (PLATFORM + 3, _nothing),
    errors.Conflict: (PLATFORM + 1, _nothing),
    errors.PreconditionFailed: (PLATFORM + 1, _hosts),
    errors.AllFiltered: (PLATFORM + 1018, _left_out),
    errors.NoProxy: (PLATFORM + 1013, _left_out),
    errors.NothingToRetry: (PLATFORM + 7, _nothing),
    errors.NothingToStop: (PLATFORM + 16, _nothing),
    errors.HostsBusy: (PLATFORM + 1020, _hosts),
    errors.LoginMissing: (PLATFORM + 1011, _left_out_and_hosts),
    errors.AllWithoutLogin: (PLATFORM + 1018, _left_out_and_hosts),
    errors.NotReady: (PLATFORM + 15, _nothing),
    errors.PackageMissing: (PLATFORM + 2011, _nothing),
    errors.Unavailable: (PLATFORM + 2, _nothing),
}


class MixedManual(errors.InvalidRequest):
    """Hosts installed by hand and hosts installed by us cannot be in one call."""


OUTER_ERRORS: Mapping[type[errors.HostlerError], tuple[int | str, Data]] = {
    MixedManual: (PLATFORM + 1024, _nothing),
    AddressTaken: (PLATFORM + 1009, _nothing),
    NotYourHost: (PLATFORM + 1022, _nothing),
    NoCredentials: (PLATFORM + 18, _nothing),
}


def fault_of(error: errors.HostlerError) -> Fault:
    """The code, the sentence and the data for an error."""
    table = {**ERRORS, **OUTER_ERRORS}
    code, data = next(table[kind] for kind in type(error).__mro__ if kind in table)
    return Fault(code, error.message, data(error), _fields(error))


def filtered_host(host: FilteredHost) -> dict[str, Any]:
    """A host that was left out, as ip_filter lists it."""
    return {
        "bk_biz_id": host.business_id,
        "bk_biz_name": host.business_name,
        "ip": host.address,
        "inner_ip": host.inner_ip,
        "inner_ipv6": host.inner_ipv6,
        "bk_host_id": host.host_id,
        "bk_cloud_id": host.zone_id,
        "bk_cloud_name": host.zone_name,
        "status": STATUS[Status.IGNORED],
        "job_id": "",
        "exception": host.exception,
        "msg": host.reason,
        "cause": host.cause,
    }


def step_status(status: Status) -> str:
    """A step's state as clients may see it."""
    # they stop reading at the first step that is not SUCCESS; a skipped one must not stop them
    return STATUS[Status.SUCCESS if status is Status.IGNORED else status]
