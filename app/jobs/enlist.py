"""Enlist hosts for a job: find or register each, and say of every other why it is left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.credentials import Place, StandingLogin, move_logins, usable_logins
from app.domain.catalogue import JobType
from app.domain.commands import FilteredHost, HostSpec, OnBusy, SubmitJob
from app.domain.errors import (
    AccessPointNotFound,
    AllFiltered,
    AllWithoutLogin,
    HostsBusy,
    NoProxy,
    PackageMissing,
    ZoneNotFound,
)
from app.domain.preconditions import HostFacts, first_refusal, has_login
from app.hosts.update import check_channels
from app.jobs.context import Context
from app.models.base import chunks, now
from app.models.counter import insert_in_order
from app.models.fleet import AccessPoint, Business, Host, HostLock, Zone, business_called, label_of
from app.models.work import Part, Task, instance_id_of, is_unfinished
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


@dataclass(frozen=True)
class _Pair:
    """A row of the request, and the host we know by it, if any."""

    spec: HostSpec
    host: Host | None

    @property
    def brings_login(self) -> bool:
        return self.spec.login is not None and self.spec.login.has_secret


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


@dataclass
class _List:
    """The list while it is being made, and the names of the places in it."""

    zones: Mapping[int, Zone]
    businesses: Mapping[int, str]
    pairs: list[_Pair] = field(default_factory=list)
    filtered: list[FilteredHost] = field(default_factory=list)

    def keep(self, pairs: Iterable[_Pair]) -> None:
        self.pairs = list(pairs)

    def refuse(self, pair: _Pair, reason: str, **more: str) -> None:
        spec, host = pair.spec, pair.host
        host = None if host and host.is_forgotten else host  # nobody's, so nobody is told of it
        business_id = host.business_id if host else spec.business_id
        zone_id = host.zone_id if host else spec.zone_id
        self.filtered.append(
            FilteredHost(
                reason=reason,
                business_id=business_id,
                business_name=self._business_name(business_id),
                zone_id=zone_id,
                zone_name=self.zones[zone_id].name if zone_id in self.zones else "",
                host_id=host.id if host else spec.host_id,
                inner_ip=(host.inner_ip if host else spec.inner_ip) or "",
                inner_ipv6=(host.inner_ipv6 if host else spec.inner_ipv6) or "",
                **more,
            )
        )

    def _business_name(self, business_id: int | None) -> str:
        if business_id is None:
            return ""
        return self.businesses.get(business_id) or business_called(business_id)


def enlist_hosts(ctx: Context, session: Session, job_type: JobType, command: SubmitJob) -> Enlisted:
    """The hosts of this submission as rows, the others with their reasons.

    Raises when the request as a whole cannot be: unknown zone, access point or install channel, a
    zone without a proxy, no package, hosts busy with on_busy=refuse, or nobody left.
    """
    zones = _check_places(session, command.hosts)
    check_package(session, job_type, command.package_version, command.package_name)
    businesses = dict(session.execute(select(Business.id, Business.name)).all())
    entries = _List(zones, businesses)
    _match(session, job_type, command.hosts, entries)
    _check_proxies(job_type, entries)
    without_login = _check_preconditions(ctx, session, job_type, entries)
    _drop_doubles(entries)
    if not entries.pairs:
        _refuse_all(entries, without_login)
    if command.on_busy is OnBusy.REFUSE:
        _check_free(session, entries.pairs)
    _record_businesses(session, _named(command.hosts) - businesses.keys())
    before = [dict(pair.host.values) if pair.host else {} for pair in entries.pairs]
    hosts = _register(session, entries.pairs, zones)
    _move_logins(ctx, session, entries.pairs)
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
            raise ZoneNotFound(f"There is no zone {spec.zone_id}.", zone_id=spec.zone_id)
        point = spec.access_point_id
        if point not in (None, -1) and point not in access_points:
            raise AccessPointNotFound(f"There is no access point {point}.", access_point_id=point)
    check_channels(session, {spec.install_channel_id for spec in specs})
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


# --- Which host is meant ------------------------------------------------------------------------


@dataclass
class _Known:
    """The hosts these rows may mean, by each of their names."""

    by_id: dict[int, Host] = field(default_factory=dict)
    by_address: dict[tuple[int, str], Host] = field(default_factory=dict)

    def add(self, host: Host) -> None:
        self.by_id[host.id] = host
        for address in filter(None, (host.inner_ip, host.inner_ipv6)):
            self.by_address[host.zone_id, address] = host

    def meant_by(self, spec: HostSpec) -> list[Host]:
        """The different hosts this row names: more than one is a contradiction."""
        found = [self.by_id.get(spec.host_id)] if spec.host_id is not None else []
        for address in filter(None, (spec.inner_ip, spec.inner_ipv6)):
            found.append(self.by_address.get((spec.zone_id, address)))
        return list({host.id: host for host in found if host}.values())


def _match(session: Session, job_type: JobType, specs: Sequence[HostSpec], entries: _List) -> None:
    known = _find(session, specs)
    pairs = []
    for spec in specs:
        hosts = known.meant_by(spec)
        if named := _others_name(spec, hosts):
            # those who may not see that business are told only what the request itself says
            entries.refuse(_Pair(spec, None), f"{named} belongs to another business")
            continue
        pair = _Pair(spec, hosts[0] if hosts else None)
        if reason := _mismatch(job_type, spec, hosts):
            entries.refuse(pair, reason)
            continue
        pairs.append(pair)
    entries.keep(pairs)


def _find(session: Session, specs: Sequence[HostSpec]) -> _Known:
    known = _Known()
    ids = [spec.host_id for spec in specs if spec.host_id is not None]
    v4 = [spec.inner_ip for spec in specs if spec.inner_ip]
    v6 = [spec.inner_ipv6 for spec in specs if spec.inner_ipv6]
    for column, values in ((Host.id, ids), (Host.inner_ip, v4), (Host.inner_ipv6, v6)):
        for some in chunks(values):
            for host in session.scalars(select(Host).where(column.in_(some))):
                known.add(host)
    return known


def _others_name(spec: HostSpec, hosts: list[Host]) -> str | None:
    """By which name this row means a host of another business; one forgotten is nobody's."""
    if not hosts or (len(hosts) == 1 and hosts[0].is_forgotten):
        return None
    owner = hosts[0].business_id if spec.business_id is None else spec.business_id
    other = next((host for host in hosts if host.business_id != owner), None)
    if other is None:
        return None
    by_address = {other.inner_ip, other.inner_ipv6} - {None}
    named = (address for address in (spec.inner_ip, spec.inner_ipv6) if address in by_address)
    return next(named, f"host {other.id}")


def _mismatch(job_type: JobType, spec: HostSpec, hosts: list[Host]) -> str | None:
    if len(hosts) > 1:
        return "its addresses and id belong to different hosts: " + ", ".join(
            f"host {host.id} is {host.label}" for host in hosts
        )
    host = hosts[0] if hosts else None
    gone = host is None or host.is_forgotten
    if spec.host_id is not None and (host is None or host.id != spec.host_id):
        return f"there is no host {spec.host_id}"
    if gone and not job_type.registers:
        return (
            f"{spec.label} is not a known host in zone {spec.zone_id}; install or import it first"
        )
    if host is None or gone:
        return None
    if host.node_kind != job_type.node.value:
        return f"{host.label} is a {host.node_kind}; {job_type.name} is for a {job_type.node.value}"
    return None


# --- Whether it may take part -------------------------------------------------------------------


def _check_proxies(job_type: JobType, entries: _List) -> None:
    """A host in another zone is reached through that zone's proxies (contracts/nodeman.md §2.1)."""
    behind = [p for p in entries.pairs if (p.host.zone_id if p.host else p.spec.zone_id) != 0]
    if not behind or not job_type.needs_proxy:
        return
    entries.filtered.clear()
    for pair in behind:
        entries.refuse(
            pair, "there is no proxy in its zone; install one first", exception="no_proxy"
        )
    raise NoProxy(filtered=tuple(entries.filtered))


def _check_preconditions(
    ctx: Context, session: Session, job_type: JobType, entries: _List
) -> dict[str, str]:
    """Filter by the job type's preconditions; what remains for want of a login is returned."""
    usable = _with_stored_login(ctx, session, job_type, entries.pairs)
    kept, without_login = [], {}
    for pair in entries.pairs:
        facts = _facts(pair, usable)
        reason = first_refusal(job_type.preconditions, facts)
        if reason is None:
            kept.append(pair)
            continue
        entries.refuse(pair, reason)
        if has_login in job_type.preconditions and reason == has_login(facts):
            without_login[facts.label] = reason
    entries.keep(kept)
    return without_login


def _drop_doubles(entries: _List) -> None:
    """Keep the first row for each host, of those that may take part."""
    seen: set[object] = set()
    kept = []
    for pair in entries.pairs:
        names = _names(pair)
        if seen & names:
            label = pair.spec.label
            entries.refuse(pair, f"duplicate: {label} is named more than once in this call")
            continue
        seen |= names
        kept.append(pair)
    entries.keep(kept)


def _names(pair: _Pair) -> set[object]:
    if pair.host:
        return {pair.host.id}
    spec = pair.spec
    return {(spec.zone_id, address) for address in (spec.inner_ip, spec.inner_ipv6) if address}


def _with_stored_login(
    ctx: Context, session: Session, job_type: JobType, pairs: Sequence[_Pair]
) -> set[int]:
    hosts = [p.host for p in pairs if p.host and not p.brings_login]
    if not hosts or has_login not in job_type.preconditions:
        return set()
    return set(
        usable_logins(
            session,
            ctx.vault,
            [host.id for host in hosts],
            now(),
            standing=standing_logins(ctx, hosts),
        )
    )


def standing_logins(ctx: Context, hosts: Iterable[Host]) -> dict[int, StandingLogin]:
    """Where Hostler's own key may be used among these hosts."""
    if not ctx.settings.standing_access:
        return {}
    return {
        host.id: StandingLogin(zone_id=host.zone_id, account=host.standing_account)
        for host in hosts
        if host.standing_account
    }


def _facts(pair: _Pair, usable: set[int]) -> HostFacts:
    spec, host = pair.spec, pair.host
    sent = pair.brings_login
    changed = host is not None and spec.auth_type and spec.auth_type.value != host.auth_type
    stored = host is not None and host.id in usable and not changed
    return HostFacts(
        label=spec.label if host is None else host.label,
        os_type=spec.os_type or (host.os_type if host else "LINUX"),
        agent_version=host.agent_version if host else None,
        has_login=sent or stored,
        login_problem=_login_problem(spec, host, bool(changed)),
    )


def _login_problem(spec: HostSpec, host: Host | None, changed: bool) -> str:
    if changed and host:
        return f"its auth_type changes from {host.auth_type}; send the new secret along"
    if host is None:
        return "it has no login yet; send account, port and password or key"
    return "its stored login has expired and no standing access is set up; send the login again"


def _refuse_all(entries: _List, without_login: Mapping[str, str]) -> None:
    if without_login and len(without_login) == len(entries.filtered):
        raise AllWithoutLogin(
            "No usable login for: " + ", ".join(without_login) + ".",
            hosts=dict(without_login),
            filtered=tuple(entries.filtered),
        )
    raise AllFiltered(filtered=tuple(entries.filtered))


def _check_free(session: Session, pairs: Sequence[_Pair]) -> None:
    """Refuse when another job holds one of these hosts, or is to have it."""
    hosts = {pair.host.id: pair.host for pair in pairs if pair.host}
    busy: dict[str, int] = {}
    for some in chunks(hosts):
        waiting = (
            select(Part.host_id, Part.job_id)
            .join(Task, Task.id == Part.task_id)
            .where(Part.host_id.in_(some), is_unfinished())
            .order_by(Part.job_id.desc())
        )
        held = select(HostLock.host_id, HostLock.job_id).where(HostLock.host_id.in_(some))
        for query in (waiting, held):
            busy |= {hosts[host_id].label: job_id for host_id, job_id in session.execute(query)}
    if busy:
        names = ", ".join(f"{label} (job {job_id})" for label, job_id in busy.items())
        raise HostsBusy(f"Another job is changing: {names}.", hosts=busy)


# --- Rows ---------------------------------------------------------------------------------------


def _register(
    session: Session, pairs: Sequence[_Pair], zones: Mapping[int, Zone]
) -> list[Host | _NewHost]:
    for pair in pairs:
        if pair.host:
            _bring_up_to_date(pair.host, pair.spec)
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


def _bring_up_to_date(host: Host, spec: HostSpec) -> None:
    """Take over what this request says about a host we know; silence changes nothing."""
    said = {
        "business_id": spec.business_id,
        "outer_ip": spec.outer_ip,
        "outer_ipv6": spec.outer_ipv6,
        "login_ip": spec.login_ip,
        "data_ip": spec.data_ip,
        "inner_ip": spec.inner_ip,
        "inner_ipv6": spec.inner_ipv6,
        "os_type": spec.os_type,
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
    host.is_forgotten = False


def _move_logins(ctx: Context, session: Session, pairs: Sequence[_Pair]) -> None:
    """Another port or account without a secret means the login that is known, used there."""
    moved = [
        (pair.host, Place(account=pair.spec.account, port=pair.spec.port))
        for pair in pairs
        if pair.host and not pair.brings_login and (pair.spec.account or pair.spec.port)
    ]
    places = {host.id: place for host, place in moved}
    standing = standing_logins(ctx, (host for host, _ in moved))
    move_logins(session, ctx.vault, places, now(), standing=standing)


def _hosted(
    job_type: JobType, pair: _Pair, host: Host | _NewHost, values_before: Mapping[str, Any]
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
