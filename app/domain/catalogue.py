"""What every job type is; nothing else in the code knows one by name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import cached_property

from app.domain.errors import InvalidRequest
from app.domain.preconditions import Precondition, agent_installed, has_login, os_has_a_role


class NodeKind(StrEnum):
    """What a host is to us: the second word of a job type."""

    AGENT = "AGENT"
    PROXY = "PROXY"
    PLUGIN = "PLUGIN"


class Executor(StrEnum):
    """Who does the work."""

    PLAYBOOK = "playbook"  # a worker, with Ansible
    RECORD = "record"  # submit itself, in its own transaction
    REPORT = "report"  # a person on the host, who reports back


class Effect(StrEnum):
    """What a proven part means for the row of its host."""

    INSTALLED = "installed"  # it runs the version the part says
    RUNNING = "running"  # as before, and seen running
    REMOVED = "removed"  # nothing of ours is left on it
    FORGOTTEN = "forgotten"  # we no longer manage it
    DETECTED = "detected"  # it is what was found on it


class TakeBack(StrEnum):
    """What taking a part back puts in place again."""

    RELEASE = "release"  # the release that was there, or nothing
    CONFIG = "config"  # the configuration that was there
    NOTHING = "nothing"  # it changed nothing that lasts
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class Title:
    """A name people read, in both languages we speak."""

    en: str
    zh: str

    def in_language(self, language: str) -> str:
        return self.zh if language.lower().startswith("zh") else self.en


@dataclass(frozen=True)
class Step:
    """A phase a user can watch inside a part; the key is the phase's name in the role."""

    key: str
    title: Title


@dataclass(frozen=True, kw_only=True)
class JobType:
    """One kind of work, as data."""

    name: str
    title: Title
    node: NodeKind
    effect: Effect
    steps: tuple[Step, ...]
    executor: Executor = Executor.PLAYBOOK
    preconditions: tuple[Precondition, ...] = (os_has_a_role, has_login)
    by_install: bool = True  # callers may send whole host rows
    by_operate: bool = True  # callers may name known hosts only
    registers: bool = False  # hosts not seen before are welcome
    needs_package: bool = False
    needs_proxy: bool = True  # in another zone it goes through one
    grants_standing_access: bool = False
    variables: frozenset[str] = frozenset()  # config values a caller may set
    timeout: timedelta = timedelta(minutes=30)  # of one run
    host_deadline: timedelta = timedelta(minutes=10)  # of one host inside it
    slice_size: int = 100
    barrier: bool = False  # every slice of the stage before must end first
    take_back: TakeBack = TakeBack.RELEASE
    report_deadline: timedelta = timedelta(hours=1)

    @property
    def playbook(self) -> str:
        """The playbook's file name without its ending."""
        return self.name.lower()

    @property
    def operation(self) -> str:
        """The word before the node kind: INSTALL, RESTART, …"""
        return self.name.rsplit("_", 1)[0]

    @property
    def prohibits_rollback(self) -> bool:
        return self.take_back is TakeBack.IMPOSSIBLE

    @property
    def attempt_timeout(self) -> timedelta:
        """How long one attempt may take, whoever makes it."""
        return self.report_deadline if self.executor is Executor.REPORT else self.timeout

    @property
    def changes_host(self) -> bool:
        return self.executor is Executor.PLAYBOOK

    def step_index(self, key: str) -> int | None:
        return self._step_indexes.get(key)

    @cached_property
    def _step_indexes(self) -> Mapping[str, int]:
        return {step.key: index for index, step in enumerate(self.steps)}


CHECK = Step("check", Title("Check the host", "检查主机"))
FETCH = Step("fetch", Title("Fetch the package", "下发安装包"))
UNPACK = Step("unpack", Title("Unpack the package", "解压安装包"))
RENDER = Step("render", Title("Render the configuration", "渲染并下发Agent配置"))
SWITCH = Step("switch", Title("Install", "安装"))
START = Step("start", Title("Start", "启动"))
VERIFY = Step("verify", Title("Query the agent status", "查询Agent状态"))
RESTART = Step("restart", Title("Restart", "重启"))
RELOAD = Step("reload", Title("Reload the agent configuration", "重载Agent配置"))
STOP = Step("stop", Title("Stop", "停止"))
REMOVE = Step("remove", Title("Uninstall Agent", "卸载Agent"))
DETECT = Step("detect", Title("Detect what is installed", "检测已安装的Agent"))
RECORD = Step("record", Title("Update the record", "更新主机信息"))
WAIT_FOR_REPORT = Step("install", Title("Install", "安装"))

DEPLOY = (CHECK, FETCH, UNPACK, RENDER, SWITCH, START, VERIFY)
CONFIG = frozenset(
    {"bt_speed_limit", "peer_exchange_switch_for_agent", "enable_compression", "data_path"}
)

INSTALL_AGENT = JobType(
    name="INSTALL_AGENT",
    title=Title("Install Agent", "安装 Agent"),
    node=NodeKind.AGENT,
    effect=Effect.INSTALLED,
    steps=DEPLOY,
    by_operate=False,
    registers=True,
    needs_package=True,
    grants_standing_access=True,
    variables=CONFIG,
)
REINSTALL_AGENT = replace(
    INSTALL_AGENT,
    name="REINSTALL_AGENT",
    title=Title("Reinstall Agent", "重装 Agent"),
    by_operate=True,
    registers=False,
)
UPGRADE_AGENT = replace(
    REINSTALL_AGENT,
    name="UPGRADE_AGENT",
    title=Title("Upgrade Agent", "升级 Agent"),
    preconditions=(os_has_a_role, has_login, agent_installed),
)
RESTART_AGENT = JobType(
    name="RESTART_AGENT",
    title=Title("Restart Agent", "重启 Agent"),
    node=NodeKind.AGENT,
    effect=Effect.RUNNING,
    take_back=TakeBack.NOTHING,
    steps=(CHECK, RESTART, VERIFY),
    needs_proxy=False,
    preconditions=(os_has_a_role, has_login, agent_installed),
)
RELOAD_AGENT = replace(
    RESTART_AGENT,
    name="RELOAD_AGENT",
    title=Title("Reload the agent configuration", "重载配置"),
    take_back=TakeBack.CONFIG,
    steps=(CHECK, RENDER, RELOAD, VERIFY),
    needs_proxy=True,
    needs_package=True,
    variables=CONFIG,
)
ACTIVATE_AGENT = replace(
    RESTART_AGENT,
    name="ACTIVATE_AGENT",
    title=Title("Activate the agent configuration", "切换配置"),
    take_back=TakeBack.CONFIG,
    steps=(CHECK, RENDER, VERIFY),
    needs_proxy=True,
    needs_package=True,
    variables=CONFIG,
)
UNINSTALL_AGENT = JobType(
    name="UNINSTALL_AGENT",
    title=Title("Uninstall Agent", "卸载 Agent"),
    node=NodeKind.AGENT,
    effect=Effect.REMOVED,
    steps=(CHECK, STOP, REMOVE, VERIFY),
    take_back=TakeBack.IMPOSSIBLE,
)
REMOVE_AGENT = JobType(
    name="REMOVE_AGENT",
    title=Title("Remove Agent", "移除 Agent"),
    node=NodeKind.AGENT,
    effect=Effect.FORGOTTEN,
    steps=(RECORD,),
    executor=Executor.RECORD,
    needs_proxy=False,
    preconditions=(),
    take_back=TakeBack.IMPOSSIBLE,
)
IMPORT_AGENT = JobType(
    name="IMPORT_AGENT",
    title=Title("Import hosts with an agent", "导入Agent机器"),
    node=NodeKind.AGENT,
    effect=Effect.DETECTED,
    take_back=TakeBack.NOTHING,
    steps=(CHECK, DETECT),
    registers=True,
    by_operate=True,
    grants_standing_access=True,
)
MANUAL_INSTALL_AGENT = JobType(
    name="MANUAL_INSTALL_AGENT",
    title=Title("Install Agent by hand", "手动安装 Agent"),
    node=NodeKind.AGENT,
    effect=Effect.INSTALLED,
    steps=(WAIT_FOR_REPORT,),
    executor=Executor.REPORT,
    preconditions=(os_has_a_role,),
    by_operate=False,
    registers=True,
    needs_package=True,
    variables=CONFIG,
    take_back=TakeBack.IMPOSSIBLE,
)

CATALOGUE = {
    job_type.name: job_type
    for job_type in (
        INSTALL_AGENT,
        REINSTALL_AGENT,
        UPGRADE_AGENT,
        RESTART_AGENT,
        RELOAD_AGENT,
        ACTIVATE_AGENT,
        UNINSTALL_AGENT,
        REMOVE_AGENT,
        IMPORT_AGENT,
        MANUAL_INSTALL_AGENT,
    )
}

# what a manual host row (is_manual) turns a job type into
BY_HAND = {"INSTALL_AGENT": "MANUAL_INSTALL_AGENT", "REINSTALL_AGENT": "MANUAL_INSTALL_AGENT"}


def get_job_type(name: str) -> JobType:
    """The job type of that name, or a refusal that lists the names there are."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise InvalidRequest(
            f"There is no job_type {name!r}; there are: {', '.join(sorted(CATALOGUE))}.",
            field="job_type",
        ) from None
