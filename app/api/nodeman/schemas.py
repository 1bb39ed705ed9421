"""What callers of the job endpoints send, turned into commands."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from app.access.credentials import MAX_DAYS
from app.api.nodeman import vocabulary
from app.api.nodeman.fields import (
    MOST_VALUES,
    Anything,
    Asked,
    Flag,
    Id,
    Many,
    Moment,
    Name,
    Rows,
    Secret,
    Text,
    Whole,
    Word,
    ip,
    ipv4,
    ipv4_list,
    ipv6,
)
from app.domain.catalogue import BY_HAND, CATALOGUE, Executor, JobType, get_job_type
from app.domain.commands import AuthType, HostSpec, LoginSpec, NextStage, OnBusy, SubmitJob
from app.domain.errors import AccessPointNotFound, InvalidRequest
from app.domain.rollout import parse_rollout
from app.hosts.search import CONDITIONS, HostFilter
from app.jobs.views import JobFilter, TargetFilter
from app.zones.first_start import DIRECT

AUTH_TYPES = (*AuthType, "TJJ_PASSWORD")
OS_TYPES = ("LINUX", "WINDOWS", "AIX", "SOLARIS", "DARWIN")
AUTOMATIC = -1
MAX_HOSTS = 100_000
MAX_PAGE = 2**31 - 1
TARGET_KEYS = ("ip", "instance_id", "status", "exclude_instance_ids")
MOST_FILTERS = 1000  # values of one filter of the history

# row fields that become config values of the agent, where the job type takes them
VALUES = ("bt_speed_limit", "peer_exchange_switch_for_agent", "enable_compression", "data_path")


class Paged(Asked):
    """A page, counted from 1; a page size of -1 means everything; `start` wins over `page`."""

    page = Whole(least=1, most=MAX_PAGE, empty=1, load_default=1)
    pagesize = Whole(least=-1, empty=10, load_default=10)
    start = Whole(least=1, most=MAX_PAGE, load_default=None)


def window(asked: Mapping[str, Any]) -> tuple[int, int | None]:
    """Which rows a page means: how many to skip, how many to take (None: all)."""
    size = asked["pagesize"]
    if size == -1:
        return (asked["start"] or 1) - 1, None
    return (asked["start"] or ((asked["page"] or 1) - 1) * size + 1) - 1, size


class LoginFields(Asked):
    """How to log in on a host."""

    auth_type = Word(AUTH_TYPES)
    account = Text(most=255)
    port = Whole(least=1, most=65535)
    password = Secret()
    key = Secret()
    retention = Whole(
        least=0, most=MAX_DAYS, metadata={"description": "days; 0: until the job ends"}
    )


class HostRow(LoginFields):
    """One host of a submission, with everything needed to reach it."""

    bk_host_id = Id(attribute="host_id")
    bk_biz_id = Whole(least=1, attribute="business_id", required=True)
    bk_cloud_id = Whole(attribute="zone_id", required=True)
    bk_addressing = Word(("static", "dynamic", "0", "1"), attribute="addressing")
    ap_id = Id(attribute="access_point_id")
    install_channel_id = Id()
    inner_ip = ipv4()
    inner_ipv6 = ipv6()
    outer_ip = ipv4_list()
    outer_ipv6 = ipv6()
    login_ip = ip()
    data_ip = ip()
    os_type = Word(OS_TYPES, required=True)
    is_manual = Flag()
    peer_exchange_switch_for_agent = Whole(most=1, metadata={"flag": True})
    bt_speed_limit = Whole()
    data_path = Text()
    enable_compression = Flag()
    is_use_ap_map = Flag()


class SetupInfo(Asked):
    """Which package to install; without a version the newest ready one."""

    name = Text(most=64)
    version = Text(most=64)


def job_type_field(names: Iterable[str]) -> Text:
    """A kind of work; one that is not among these is refused by the catalogue, in its words."""
    return Text(required=True, most=48, metadata={"enum": list(names)})


class Following(Asked):
    """Work that follows on every host the stage before it succeeded on."""

    job_type = job_type_field(CATALOGUE)
    version = Text(most=64)
    peer_exchange_switch_for_agent = Whole(most=1, metadata={"flag": True})
    bt_speed_limit = Whole()
    data_path = Text()
    enable_compression = Flag(default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> NextStage:
        version = asked.get("version") or ""
        return NextStage(
            job_type=asked["job_type"],
            package_version=None if version in vocabulary.NEWEST else version,
            values={name: asked[name] for name in VALUES if asked.get(name) is not None},
        )


class Work(Asked):
    """What every submission may say."""

    is_install_latest_plugins = Flag(default=True)
    is_install_other_agent = Flag()
    agent_setup_info = fields.Nested(SetupInfo, allow_none=True, load_default=None)
    script_hooks = Anything(load_default=None)
    on_busy = Word(tuple(OnBusy), load_default=None, metadata={"description": "wait or refuse"})
    then = fields.Nested(Following, many=True, allow_none=True, load_default=None)
    rollout = Anything(
        load_default=None,
        allow_none=True,
        metadata={
            "type": "object",
            "description": "{canary: 1, batches: [10%, 50%, 100%], max_failed: 5%, "
            "soak_seconds, confirm}: a few hosts first, then more, as long as few fail",
        },
    )

    @validates_schema
    def refuse_hooks(self, asked: dict[str, Any], **_more: Any) -> None:
        if asked.get("script_hooks"):
            raise ValidationError(
                "hook scripts are not supported; leave them out", field_name="script_hooks"
            )

    def command(self, asked: Mapping[str, Any], job_type: str, hosts: list[HostSpec]) -> SubmitJob:
        setup = asked["agent_setup_info"] or {}
        version = setup.get("version") or ""
        return SubmitJob(
            job_type=job_type,
            hosts=tuple(hosts),
            created_by="",
            package_name=setup.get("name") or None,
            package_version=None if version in vocabulary.NEWEST else version,
            install_latest_plugins=asked["is_install_latest_plugins"],
            on_busy=OnBusy(asked["on_busy"] or OnBusy.WAIT),
            then=tuple(asked["then"] or ()),
            rollout=None if asked["rollout"] is None else parse_rollout(asked["rollout"]),
        )


class Install(Work):
    """A kind of work, and whole host rows."""

    job_type = job_type_field(name for name, kind in CATALOGUE.items() if kind.by_install)
    hosts = Rows(HostRow, required=True)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> SubmitJob:
        job_type = get_job_type(asked["job_type"])
        rows = asked["hosts"]
        if not job_type.by_install:
            raise InvalidRequest(f"{job_type.name} is not for job/install.", field="job_type")
        if not rows:
            raise InvalidRequest("hosts is empty; name at least one host.", field="hosts")
        _check_rows(rows, job_type)
        by_hand = {bool(row.get("is_manual")) for row in rows}
        if len(by_hand) > 1:
            raise vocabulary.MixedManual(field="hosts")
        _check_access_points(rows)
        if by_hand == {True}:
            job_type = _by_hand(job_type)
        return self.command(asked, job_type.name, [_host(row, job_type) for row in rows])


def _by_hand(job_type: JobType) -> JobType:
    if job_type.executor is not Executor.PLAYBOOK:
        return job_type
    if job_type.name not in BY_HAND:
        able = ", ".join(sorted(BY_HAND))
        raise InvalidRequest(
            f"{job_type.name} cannot be done by hand (is_manual); these can: {able}.",
            field="is_manual",
        )
    return get_job_type(BY_HAND[job_type.name])


def _check_rows(rows: list[dict[str, Any]], job_type: JobType) -> None:
    problems = {i: found for i, row in enumerate(rows) if (found := _problems(row, job_type))}
    if problems:
        raise ValidationError({"hosts": problems})


def _problems(row: Mapping[str, Any], job_type: JobType) -> dict[str, list[str]]:
    """What is missing in a row, by field."""
    found: dict[str, list[str]] = {}
    for wire, name in (("bk_biz_id", "business_id"), ("bk_cloud_id", "zone_id")):
        if row.get(name) is None:
            found[wire] = ["is missing"]
    if not row.get("os_type"):
        found["os_type"] = ["is missing"]
    if not (row.get("inner_ip") or row.get("inner_ipv6") or row.get("host_id")):
        found["inner_ip"] = ["is missing: send inner_ip, inner_ipv6 or both"]
    if job_type.executor is Executor.PLAYBOOK and not row.get("is_manual"):
        found.update(_login_problems(row, is_required=job_type.registers))
    return found


def _check_access_points(rows: list[dict[str, Any]]) -> None:
    """Where zone 0 is meant an access point must be named, or -1 for an automatic choice."""
    for index, row in enumerate(rows):
        named = row.get("access_point_id") is not None or row.get("is_use_ap_map")
        if row["zone_id"] == DIRECT and not named:
            raise AccessPointNotFound(
                f"hosts.{index}.ap_id is missing; send an access point's id, or -1.",
                field=f"hosts.{index}.ap_id",
            )


def _login_problems(row: Mapping[str, Any], is_required: bool) -> dict[str, list[str]]:
    auth_type = row.get("auth_type")
    if auth_type == "TJJ_PASSWORD":
        return {"auth_type": ["TJJ_PASSWORD needs a password vault, and none is configured"]}
    secret = "key" if auth_type == AuthType.KEY else "password"
    if not (is_required or row.get(secret)):
        return {}
    needed = ["auth_type", "account", "port", *([secret] if is_required and auth_type else [])]
    return {name: ["is missing"] for name in needed if not row.get(name)}


def _host(row: Mapping[str, Any], job_type: JobType) -> HostSpec:
    channel = row.get("install_channel_id")
    return HostSpec(
        host_id=row.get("host_id"),
        business_id=row["business_id"],
        zone_id=row["zone_id"],
        inner_ip=row.get("inner_ip"),
        inner_ipv6=row.get("inner_ipv6"),
        outer_ip=row.get("outer_ip"),
        outer_ipv6=row.get("outer_ipv6"),
        login_ip=row.get("login_ip"),
        data_ip=row.get("data_ip"),
        os_type=row["os_type"],
        access_point_id=row.get("access_point_id"),
        # no address range is tied to a channel, so an automatic choice is no channel
        install_channel_id=None if channel == AUTOMATIC else channel,
        addressing="dynamic" if row.get("addressing") in ("dynamic", "1") else "static",
        is_manual=bool(row.get("is_manual")),
        port=row.get("port"),
        account=row.get("account") or None,
        auth_type=AuthType(row["auth_type"]) if row.get("auth_type") else None,
        login=login_of(row),
        values={name: row[name] for name in VALUES if name in row and name in job_type.variables},
    )


def login_of(row: Mapping[str, Any]) -> LoginSpec | None:
    """The login in a row, if it brings a secret."""
    auth_type = row.get("auth_type")
    secret = row.get("key" if auth_type == AuthType.KEY else "password")
    if not (auth_type and secret and row.get("account") and row.get("port")):
        return None
    return LoginSpec(
        account=row["account"],
        port=row["port"],
        auth_type=AuthType(auth_type),
        password=secret if auth_type == AuthType.PASSWORD else None,
        key=secret if auth_type == AuthType.KEY else None,
        retention=row.get("retention"),
    )


class Condition(Asked):
    """One filter: a key, and the value or values it may have."""

    value = Anything(required=True, allow_none=True)


class HostCondition(Condition):
    """One filter for hosts; a key that is not among these is refused by the search."""

    key = Text(required=True, most=64, metadata={"enum": sorted(CONDITIONS)})


class TargetCondition(Condition):
    """One filter for the hosts of a job."""

    key = Text(required=True, most=64, metadata={"enum": list(TARGET_KEYS)})


class Selecting(Asked):
    """Which hosts, by what is known of them."""

    bk_biz_id = Many(Id(), load_default=None)
    bk_cloud_id = Many(Id(), load_default=None)
    bk_host_id = Many(Id(), load_default=None)
    version = Many(Text(), load_default=None)
    conditions = Rows(HostCondition, load_default=None)
    exclude_hosts = Many(Id(), load_default=None)


def host_filter(asked: Mapping[str, Any]) -> HostFilter:
    """The selection as a filter; conditions with keys we do not know are refused by name."""
    return HostFilter(
        host_ids=_ids(asked["bk_host_id"]),
        excluded_ids=_ids(asked["exclude_hosts"]) or frozenset(),
        business_ids=_ids(asked["bk_biz_id"] or None),
        zone_ids=_ids(asked["bk_cloud_id"] or None),
        versions=frozenset(asked["version"] or ()) or None,
        conditions=conditions_of(asked["conditions"]),
    )


def _ids(values: list[int | None] | None) -> frozenset[int] | None:
    return None if values is None else frozenset(value for value in values if value is not None)


def conditions_of(rows: list[dict[str, Any]] | None) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Conditions as pairs of key and values; one value alone counts as a list of one."""
    found = []
    for index, row in enumerate(rows or ()):
        if "key" not in row:
            raise ValidationError({"conditions": {index: {"key": ["is missing"]}}})
        value = row.get("value")
        found.append((row["key"], tuple(value) if isinstance(value, list) else (value,)))
    if sum(len(values) for _, values in found) > MOST_VALUES:
        raise ValidationError(f"have more than {MOST_VALUES} values", field_name="conditions")
    return tuple(found)


class KnownHost(Asked):
    """A host we know, by id or by address."""

    bk_host_id = Id(attribute="host_id")
    bk_cloud_id = Whole(attribute="zone_id")
    inner_ip = ipv4()
    inner_ipv6 = ipv6()
    ap_id = Id(attribute="access_point_id")
    is_use_ap_map = Flag()


class Operate(Work, Selecting):
    """A kind of work, and hosts that are known: by id, by address, or by description."""

    job_type = job_type_field(name for name, kind in CATALOGUE.items() if kind.by_operate)
    bk_host_id = Many(Id(), most=MAX_HOSTS, load_default=None)
    hosts = Rows(KnownHost, load_default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> tuple[SubmitJob, HostFilter | None]:
        """The command, and the hosts to look up first where the caller described them."""
        job_type = get_job_type(asked["job_type"])
        if not job_type.by_operate:
            raise InvalidRequest(
                f"{job_type.name} needs whole host rows; use job/install.", field="job_type"
            )
        command = self.command(asked, job_type.name, self._hosts(asked))
        return command, (host_filter(asked) if asked["exclude_hosts"] is not None else None)

    @staticmethod
    def _hosts(asked: Mapping[str, Any]) -> list[HostSpec]:
        named = [
            name for name in ("bk_host_id", "exclude_hosts", "hosts") if asked[name] is not None
        ]
        if "bk_host_id" in named and "exclude_hosts" in named:
            raise InvalidRequest(
                "bk_host_id and exclude_hosts exclude each other.", field="exclude_hosts"
            )
        if not named:
            raise InvalidRequest("Send bk_host_id, exclude_hosts or hosts.", field="bk_host_id")
        ids = [HostSpec(host_id=host_id) for host_id in asked["bk_host_id"] or ()]
        specs = ids + [HostSpec(**_known(i, row)) for i, row in enumerate(asked["hosts"] or ())]
        if not specs and "exclude_hosts" not in named:
            raise InvalidRequest(f"{named[0]} is empty; name at least one host.", field=named[0])
        return specs


def _known(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if not (row.get("host_id") or row.get("inner_ip") or row.get("inner_ipv6")):
        raise ValidationError(
            {"hosts": {index: {"bk_host_id": ["is missing: send it, or bk_cloud_id and inner_ip"]}}}
        )
    wanted = ("host_id", "zone_id", "inner_ip", "inner_ipv6", "access_point_id")
    return {name: row[name] for name in wanted if name in row}


class Sort(Asked):
    """By which count to sort the history."""

    head = Word(("total_count", "failed_count", "success_count"))
    sort_type = Word(("ASC", "DEC", "DESC"), load_default="DEC")


class JobList(Paged):
    """Which jobs of the task history."""

    job_id = Many(Id(), most=MOST_FILTERS, load_default=None)
    status = Many(Text(), most=MOST_FILTERS, load_default=None)
    created_by = Many(Text(), most=MOST_FILTERS, load_default=None)
    bk_biz_id = Many(Id(), most=MOST_FILTERS, load_default=None)
    inner_ip_list = Many(Text(), most=MOST_FILTERS, load_default=None)
    job_type = Many(Text(), most=MOST_FILTERS, load_default=None)
    step_type = Many(Text(), most=MOST_FILTERS, load_default=None)
    op_type = Many(Text(), most=MOST_FILTERS, load_default=None)
    sort = fields.Nested(Sort, allow_none=True, load_default=None)
    hide_auto_trigger_job = Flag()
    start_time = Moment(load_default=None, allow_none=True)
    end_time = Moment(load_default=None, allow_none=True)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> JobFilter:
        skip, take = window(asked)
        sort = asked["sort"] or {}
        return JobFilter(
            job_ids=_ids(asked["job_id"] or None),
            statuses=statuses_of(asked["status"], vocabulary.JOB_STATUS_OF),
            created_by=frozenset(asked["created_by"] or ()) or None,
            business_ids=_ids(asked["bk_biz_id"] or None),
            addresses=frozenset(asked["inner_ip_list"] or ()) or None,
            job_types=frozenset(asked["job_type"] or ()) or None,
            node_kinds=frozenset(asked["step_type"] or ()) or None,
            operations=frozenset(asked["op_type"] or ()) or None,
            since=asked["start_time"],
            until=asked["end_time"],
            sort_by=(sort.get("head") or "").removesuffix("_count"),
            ascending=sort.get("sort_type") == "ASC",
            skip=skip,
            take=take,
        )


def statuses_of(
    words: list[str] | None, table: Mapping[str, Any] = vocabulary.STATUS_OF
) -> frozenset[Any] | None:
    """The states these words mean; a word that means none matches nothing."""
    return frozenset(table[word] for word in words if word in table) if words else None


class OneJob(Asked):
    """The job, in the path or beside the other parameters."""

    job_id = Id(required=True)


class Details(OneJob, Paged):
    """One job, and which of its hosts."""

    conditions = Rows(TargetCondition, load_default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> tuple[int, TargetFilter]:
        skip, take = window(asked)
        return asked["job_id"], _target_filter(conditions_of(asked["conditions"]), skip, take)


def _target_filter(
    conditions: tuple[tuple[str, tuple[Any, ...]], ...], skip: int, take: int | None
) -> TargetFilter:
    found = TargetFilter(skip=skip, take=take)
    for key, values in conditions:
        texts = frozenset(value for value in values if isinstance(value, str))
        match key:
            case "ip":
                found = replace(found, addresses=texts)
            case "instance_id":
                found = replace(found, instance_ids=texts)
            case "exclude_instance_ids":
                found = replace(found, excluded_ids=texts)
            case "status":
                states = (vocabulary.STATUS_OF[word] for word in texts & set(vocabulary.STATUS_OF))
                found = replace(found, statuses=frozenset(states))
            case _:
                known = ", ".join(TARGET_KEYS)
                raise InvalidRequest(
                    f"conditions: there is no key {key!r}; there are: {known}.", field="conditions"
                )
    return found


class NewLogin(LoginFields):
    """A login for a host that is tried again."""

    bk_host_id = Id(attribute="host_id", required=True)
    auth_type = Word(AUTH_TYPES, required=True)
    account = Text(most=255, required=True)
    port = Whole(least=1, most=65535, required=True)


class Instances(Asked):
    """Which instances; none at all means every one that qualifies."""

    instance_id_list = Many(Text(most=256), load_default=None)


class Retry(OneJob, Instances):
    """Which instances to try again, by default all that failed; `hosts` may bring new logins."""

    hosts = Rows(NewLogin, load_default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> dict[str, Any]:
        return {**asked, "logins": new_logins(asked["hosts"])}


def new_logins(rows: list[dict[str, Any]] | None) -> dict[int, LoginSpec]:
    """New logins by host; each must be whole."""
    logins, problems = {}, {}
    for index, row in enumerate(rows or ()):
        found = _login_problems(row, is_required=True)
        if not row.get("host_id"):
            found["bk_host_id"] = ["is missing"]
        if found:
            problems[index] = found
        elif login := login_of(row):
            logins[row["host_id"]] = login
    if problems:
        raise ValidationError({"hosts": problems})
    return logins


class Revoke(OneJob, Instances):
    """Which instances to stop, by default all."""


class OneInstance(OneJob):
    """One host in a job."""

    instance_id = Name(most=256)


class Commands(OneJob):
    """A host that is installed by hand."""

    bk_host_id = Id(required=True)
    is_uninstall = Flag()
