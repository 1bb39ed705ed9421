"""What callers send to begin work, turned into commands."""

from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import ValidationError, post_load, validates_schema

from app.api.nodeman import vocabulary
from app.api.nodeman.fields import (
    AnyObject,
    Anything,
    Asked,
    Flag,
    HostPath,
    Id,
    Many,
    Object,
    Rows,
    Text,
    Whole,
    Word,
    ip,
    ipv4,
    ipv4_list,
    ipv6,
)
from app.api.nodeman.schemas import (
    AUTOMATIC,
    VALUES,
    LoginFields,
    Selecting,
    host_filter,
    login_of,
    login_problems,
)
from app.domain.catalogue import BY_HAND, CATALOGUE, Executor, JobType, get_job_type
from app.domain.commands import AuthType, HostSpec, NextStage, OnBusy, SubmitJob
from app.domain.errors import AccessPointNotFound, InvalidRequest
from app.domain.paths import path_problem
from app.domain.rollout import parse_rollout
from app.hosts.search import HostFilter
from app.zones.first_start import DIRECT

OS_TYPES = ("LINUX", "WINDOWS", "AIX", "SOLARIS", "DARWIN")
MAX_HOSTS = 100_000
ADDRESSING = {"static": "static", "dynamic": "dynamic", "0": "static", "1": "dynamic"}


class HostRow(LoginFields):
    """One host of a submission, with everything needed to reach it."""

    bk_host_id = Id(attribute="host_id")
    bk_biz_id = Whole(least=1, attribute="business_id", required=True)
    bk_cloud_id = Whole(attribute="zone_id", required=True)
    bk_addressing = Word(tuple(ADDRESSING), attribute="addressing")
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
    data_path = HostPath()
    enable_compression = Flag(default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> NextStage:
        version = asked.get("version") or ""
        return NextStage(
            job_type=asked["job_type"],
            package_version=None if version in vocabulary.NEWEST else version,
            values={name: asked[name] for name in VALUES if asked.get(name) is not None},
        )


UNSUPPORTED = {
    "script_hooks": "hook scripts are not supported; leave them out",
    "is_install_other_agent": "there is no second agent to install beside the first; leave it out",
}


class Work(Asked):
    """What every submission may say."""

    is_install_latest_plugins = Flag(default=True)
    is_install_other_agent = Flag()
    agent_setup_info = Object(SetupInfo)
    script_hooks = Anything(load_default=None)
    on_busy = Word(tuple(OnBusy), load_default=None, metadata={"description": "wait or refuse"})
    then = Object(Following, many=True)
    rollout = AnyObject(
        metadata={
            "description": "{canary: 1, batches: [10%, 50%, 100%], max_failed: 5%, "
            "soak_seconds, confirm}: a few hosts first, then more, as long as few fail",
        },
    )

    @validates_schema
    def refuse_unsupported(self, asked: dict[str, Any], **_more: Any) -> None:
        if problems := {name: [text] for name, text in UNSUPPORTED.items() if asked.get(name)}:
            raise ValidationError(problems)

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
    # a host of another system is left out, whatever its paths look like
    data_path = row.get("data_path") if row.get("os_type") == "LINUX" else None
    if data_path and (problem := path_problem(data_path)):
        found["data_path"] = [problem]
    if job_type.executor is Executor.PLAYBOOK and not row.get("is_manual"):
        found.update(login_problems(row, is_required=job_type.registers))
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
        addressing=ADDRESSING.get(row.get("addressing") or ""),
        is_manual=bool(row.get("is_manual")),
        port=row.get("port"),
        account=row.get("account"),
        auth_type=AuthType(row["auth_type"]) if row.get("auth_type") else None,
        login=login_of(row),
        values={
            name: row[name]
            for name in VALUES
            if row.get(name) is not None and name in job_type.variables
        },
    )


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
        return command, (_described(asked) if asked["exclude_hosts"] is not None else None)

    @staticmethod
    def _hosts(asked: Mapping[str, Any]) -> list[HostSpec]:
        named = [name for name in ("bk_host_id", "hosts") if asked[name] is not None]
        is_everything = asked["exclude_hosts"] is not None
        if named and is_everything:
            raise InvalidRequest(
                f"{named[0]} and exclude_hosts exclude each other.", field="exclude_hosts"
            )
        if not named and not is_everything:
            raise InvalidRequest("Send bk_host_id, exclude_hosts or hosts.", field="bk_host_id")
        ids = [HostSpec(host_id=host_id) for host_id in asked["bk_host_id"] or ()]
        specs = ids + [HostSpec(**_known(i, row)) for i, row in enumerate(asked["hosts"] or ())]
        if named and not specs:
            raise InvalidRequest(f"{named[0]} is empty; name at least one host.", field=named[0])
        return specs


def _described(asked: Mapping[str, Any]) -> HostFilter:
    found = host_filter(asked)
    if any(key == "query" and "" in values for key, values in found.conditions):
        raise InvalidRequest(
            "conditions: query is empty, and so is in every host; leave it out if all are meant.",
            field="conditions",
        )
    return found


def _known(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if not (row.get("host_id") or row.get("inner_ip") or row.get("inner_ipv6")):
        raise ValidationError(
            {"hosts": {index: {"bk_host_id": ["is missing: send it, or bk_cloud_id and inner_ip"]}}}
        )
    wanted = ("host_id", "zone_id", "inner_ip", "inner_ipv6", "access_point_id")
    return {name: row[name] for name in wanted if name in row}
