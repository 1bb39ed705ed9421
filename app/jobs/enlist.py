"""Enlist hosts for a job: find or register each, and say of every other why it is left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.catalogue import JobType
from app.domain.commands import FilteredHost, HostSpec, OnBusy, SubmitJob
from app.domain.errors import (
    AccessPointNotFound,
    PackageMissing,
    ZoneNotFound,
)
from app.hosts.update import check_channels
from app.jobs.admit import check_free, check_preconditions, check_proxies, drop_doubles, refuse_all
from app.jobs.context import Context
from app.jobs.entries import Entries, Pair
from app.jobs.logins import move_named_logins
from app.jobs.match import match_hosts
from app.models.counter import insert_in_order
from app.models.fleet import AccessPoint, Business, Host, Zone, business_called, label_of
from app.models.work import instance_id_of
from app.packages.choose import choose_packages


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """One host that takes part."""

    host_id: int
    business_id: int
    zone_id: int
    instance_id: str
    spec: HostSpec
    snapshot: Mapping[str, Any]
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Enlisted:
    """Who takes part, and who does not and why."""

    hosts: tuple[Hosted, ...]
    filtered: tuple[FilteredHost, ...]

    @property
    def business_ids(self) -> list[int]:
        """Of all of them, so that whoever may see the job may see every host it shows."""
        left_out = {host.business_id for host in self.filtered if host.business_id is not None}
        return sorted(left_out | {host.business_id for host in self.hosts})


@dataclass(frozen=True, kw_only=True, slots=True)
class _NewHost:
    """A host just registered: thousands are only read, and rows of the session cost far more."""

    id: int
    business_id: int
    zone_id: int
    inner_ip: str | None
    inner_ipv6: str | None
    os_type: str
    access_point_id: int
    values: Mapping[str, Any]
    hostname: str = ""
    agent_version: str | None = None

    @property
    def label(self) -> str:
        return label_of(self.id, self.inner_ip, self.inner_ipv6)


def enlist_hosts(ctx: Context, session: Session, job_type: JobType, command: SubmitJob) -> Enlisted:
    """The hosts of this submission as rows, the others with their reasons.

    Raises when the request as a whole cannot be: unknown zone, access point or install channel, a
    zone without a proxy, no package, hosts busy with on_busy=refuse, or nobody left.
    """
    zones = _check_places(session, command.hosts)
    check_package(session, job_type, command.package_version, command.package_name)
    businesses = dict(session.execute(select(Business.id, Business.name)).all())
    entries = Entries(zones, businesses)
    match_hosts(session, job_type, command.hosts, entries)
    check_proxies(job_type, entries)
    without_login = check_preconditions(ctx, session, job_type, entries)
    drop_doubles(entries)
    if not entries.pairs:
        refuse_all(entries, without_login)
    if command.on_busy is OnBusy.REFUSE:
        check_free(session, entries.pairs)
    _record_businesses(session, _named(command.hosts) - businesses.keys())
    before = [dict(pair.host.values) if pair.host else {} for pair in entries.pairs]
    hosts = _register(session, job_type, entries.pairs, zones)
    move_named_logins(ctx, session, entries.pairs)
    return Enlisted(
        hosts=tuple(map(partial(_hosted, job_type), entries.pairs, hosts, before)),
        # an id that is no host's is dropped from an operation without a word (§2.3)
        filtered=tuple(host for host in entries.filtered if not host.is_only_an_id),
    )


# --- The request as a whole ---------------------------------------------------------------------


def _check_places(session: Session, specs: Sequence[HostSpec]) -> dict[int, Zone]:
    zones = {zone.id: zone for zone in session.scalars(select(Zone))}
    access_points = set(session.scalars(select(AccessPoint.id)))
    for spec in specs:
        if spec.host_id is None and spec.zone_id not in zones:
            raise ZoneNotFound(
                f"There is no zone {spec.zone_id}, where {spec.label} is said to be.",
                zone_id=spec.zone_id,
            )
        point = spec.access_point_id
        if point not in (None, -1) and point not in access_points:
            raise AccessPointNotFound(
                f"There is no access point {point} for {spec.label}.", access_point_id=point
            )
    check_channels(session, {spec.install_channel_id: spec.label for spec in specs})
    return zones


def check_package(
    session: Session, job_type: JobType, version: str | None, name: str | None
) -> None:
    """Refuse, as PackageMissing, work for which there is no package."""
    kind = job_type.node.value.lower()
    if not job_type.needs_package or choose_packages(session, kind, "LINUX", version, name):
        return
    wanted = f"{kind} package" + (f" {name}" if name else "")
    wanted += f" of version {version}" if version else ""
    raise PackageMissing(
        f"There is no {wanted} for LINUX; add one with `hostler package add FILE`.",
        version=version,
    )


# --- Rows ---------------------------------------------------------------------------------------


def _register(
    session: Session, job_type: JobType, pairs: Sequence[Pair], zones: Mapping[int, Zone]
) -> list[Host | _NewHost]:
    for pair in pairs:
        if pair.host:
            _bring_up_to_date(pair.host, pair.spec, registers=job_type.registers)
    fresh = [_new_row(pair.spec, zones[pair.spec.zone_id]) for pair in pairs if not pair.host]
    made = iter(_insert(session, fresh))
    return [pair.host or next(made) for pair in pairs]


def _insert(session: Session, rows: list[dict[str, Any]]) -> list[_NewHost]:
    if not rows:
        return []
    ids = insert_in_order(session, Host, rows)
    return [
        _NewHost(
            id=host_id,
            business_id=row["business_id"],
            zone_id=row["zone_id"],
            inner_ip=row["inner_ip"],
            inner_ipv6=row["inner_ipv6"],
            os_type=row["os_type"],
            access_point_id=row["access_point_id"],
            values=row["values"],
        )
        for host_id, row in zip(ids, rows, strict=True)
    ]


def _named(specs: Iterable[HostSpec]) -> set[int]:
    return {spec.business_id for spec in specs if spec.business_id is not None}


def _record_businesses(session: Session, new: set[int]) -> None:
    session.add_all(Business(id=each, name=business_called(each)) for each in sorted(new))
    session.flush()


def _new_row(spec: HostSpec, zone: Zone) -> dict[str, Any]:
    point = spec.access_point_id
    return {
        "business_id": spec.business_id,
        "zone_id": spec.zone_id,
        "inner_ip": spec.inner_ip or None,
        "inner_ipv6": spec.inner_ipv6 or None,
        "outer_ip": spec.outer_ip or "",
        "outer_ipv6": spec.outer_ipv6 or "",
        "login_ip": spec.login_ip or "",
        "data_ip": spec.data_ip or "",
        "addressing": spec.addressing or "static",
        "os_type": spec.os_type or "LINUX",
        "access_point_id": zone.access_point_id if point in (None, -1) else point,
        "install_channel_id": spec.install_channel_id,
        "is_manual": bool(spec.is_manual),
        "port": spec.port or 22,
        "account": spec.account or "root",
        "auth_type": spec.auth_type.value if spec.auth_type else "PASSWORD",
        "values": dict(spec.values),
        "is_forgotten": False,
    }


def _bring_up_to_date(host: Host, spec: HostSpec, *, registers: bool) -> None:
    """Take over what this request says about a host we know; silence changes nothing.

    Whose it is and which addresses name it is said only by a job type that registers hosts.
    """
    said = {
        "business_id": spec.business_id if registers else None,
        "outer_ip": spec.outer_ip,
        "outer_ipv6": spec.outer_ipv6,
        "login_ip": spec.login_ip,
        "data_ip": spec.data_ip,
        "inner_ip": spec.inner_ip if registers else None,
        "inner_ipv6": spec.inner_ipv6 if registers else None,
        "os_type": spec.os_type if registers else None,
        "access_point_id": None if spec.access_point_id == -1 else spec.access_point_id,
        "install_channel_id": spec.install_channel_id,
        "addressing": spec.addressing,
        "port": spec.port,
        "account": spec.account,
        "auth_type": spec.auth_type.value if spec.auth_type else None,
    }
    for name, value in said.items():
        if value and getattr(host, name) != value:
            setattr(host, name, value)
    if spec.is_manual is not None:
        host.is_manual = spec.is_manual
    if spec.values:
        host.values = {**host.values, **spec.values}
    if host.is_forgotten:
        host.is_forgotten, host.agent_status = False, "NOT_INSTALLED"


def _hosted(
    job_type: JobType, pair: Pair, host: Host | _NewHost, values_before: Mapping[str, Any]
) -> Hosted:
    values = {k: v for k, v in host.values.items() if k in job_type.variables}
    return Hosted(
        host_id=host.id,
        business_id=host.business_id,
        zone_id=host.zone_id,
        instance_id=instance_id_of(host.id if pair.host else None, host.label, host.zone_id),
        spec=pair.spec,
        snapshot={
            "inner_ip": host.inner_ip or "",
            "inner_ipv6": host.inner_ipv6 or "",
            "zone_id": host.zone_id,
            "business_id": host.business_id,
            "hostname": host.hostname,
            "os_type": host.os_type,
            "access_point_id": host.access_point_id,
            "is_manual": bool(pair.spec.is_manual),
            "agent_version": host.agent_version,
            "values_before": dict(values_before),
        },
        values=values,
    )
