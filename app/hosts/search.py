"""Search hosts by what is known of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, false, func, not_, or_, select, true
from sqlalchemy.orm import Session

from app.domain.addresses import stored_address
from app.domain.errors import InvalidRequest
from app.models.base import among, chunks
from app.models.fleet import Business, Host, InstallChannel, Zone

T = TypeVar("T")
Conditions = tuple[tuple[str, tuple[Any, ...]], ...]
MOST_WAYS = 100  # values that each cost a condition of their own
SOURCES = ("CMDB", "EXCEL", "NODE_MAN")
FLAGS = {"true": True, "1": True, "false": False, "0": False}
WITHIN_BUSINESS = ("bk_set_ids", "bk_module_ids")
ID = re.compile(r"^-?[0-9]{1,18}$")


@dataclass(frozen=True, kw_only=True)
class HostFilter:
    """Which hosts; None means any. `visible` are the businesses the reader may see."""

    host_ids: frozenset[int] | None = None
    excluded_ids: frozenset[int] = frozenset()
    business_ids: frozenset[int] | None = None
    visible: frozenset[int] | None = None
    zone_ids: frozenset[int] | None = None
    versions: frozenset[str] | None = None
    node_kinds: frozenset[str] = frozenset({"AGENT"})
    conditions: Conditions = ()


@dataclass(frozen=True, kw_only=True)
class HostView:
    """One host, with the names of what it belongs to."""

    host: Host
    zone_name: str
    business_name: str
    channel_name: str


def search_hosts(
    session: Session, wanted: HostFilter, skip: int = 0, take: int | None = 10
) -> tuple[list[HostView], int]:
    """Hosts by id, and how many there are."""
    query = _filter(select(Host), wanted)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    query = query.order_by(Host.id).offset(skip)
    rows = session.scalars(query if take is None else query.limit(take)).all()
    return _views(session, rows), total


def search_addresses(
    session: Session, wanted: HostFilter, column: str, skip: int = 0, take: int | None = 10
) -> tuple[list[tuple[int, str]], int]:
    """The zone and address of each host that has one in this column, by id, and how many have."""
    address = getattr(Host, column)
    query = _filter(select(Host.zone_id, address), wanted).where(address != "")
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = session.execute(query.order_by(Host.id).offset(skip).limit(take))
    return [(zone_id, text) for zone_id, text in rows], total


def find_host_ids(session: Session, wanted: HostFilter) -> list[int]:
    """The ids of all these hosts."""
    return list(session.scalars(_filter(select(Host.id), wanted).order_by(Host.id)))


def count_running(session: Session, wanted: HostFilter) -> int:
    """How many of these hosts have a running agent."""
    query = _filter(select(func.count(Host.id)), wanted)
    return session.scalar(query.where(Host.agent_status == "RUNNING")) or 0


def businesses_of(
    session: Session, host_ids: Iterable[int], addresses: Iterable[tuple[int, str]] = ()
) -> set[int]:
    """Whose hosts these are, by id or by zone and address; hosts nobody knows belong to nobody."""
    found: set[int] = set()
    for some in chunks(host_ids):
        found.update(session.scalars(select(Host.business_id).where(Host.id.in_(some))))
    for places in map(set, chunks(addresses)):
        texts = {address for _, address in places}
        query = select(Host.business_id, Host.zone_id, Host.inner_ip, Host.inner_ipv6).where(
            or_(Host.inner_ip.in_(texts), Host.inner_ipv6.in_(texts))
        )
        found.update(
            business
            for business, zone, v4, v6 in session.execute(query)
            if (zone, v4) in places or (zone, v6) in places
        )
    return found


def _views(session: Session, rows: Sequence[Host]) -> list[HostView]:
    zones = dict(session.execute(select(Zone.id, Zone.name)).all())
    businesses = dict(session.execute(select(Business.id, Business.name)).all())
    channels = dict(session.execute(select(InstallChannel.id, InstallChannel.name)).all())
    return [
        HostView(
            host=row,
            zone_name=zones.get(row.zone_id, ""),
            business_name=businesses.get(row.business_id, ""),
            channel_name=channels.get(row.install_channel_id or 0, ""),
        )
        for row in rows
    ]


def _filter(query: Select[Any], wanted: HostFilter) -> Select[Any]:
    query = query.where(~Host.is_forgotten, Host.node_kind.in_(wanted.node_kinds))
    for column, values in (
        (Host.business_id, wanted.business_ids),
        (Host.business_id, wanted.visible),
        (Host.zone_id, wanted.zone_ids),
        (Host.agent_version, wanted.versions),
    ):
        if values is not None:
            query = query.where(column.in_(values))
    if wanted.host_ids is not None:
        query = query.where(among(Host.id, wanted.host_ids))
    if wanted.excluded_ids:
        query = query.where(not_(among(Host.id, wanted.excluded_ids)))
    for key, asked in wanted.conditions:
        query = query.where(_condition(key, asked))
    return query


def _condition(key: str, values: tuple[Any, ...]) -> ColumnElement[bool]:
    make = CONDITIONS.get(key)
    if make is None:
        known = ", ".join(sorted(CONDITIONS))
        raise InvalidRequest(
            f"conditions: there is no key {key!r}; there are: {known}.", field="conditions"
        )
    return make(values)


def _texts(values: tuple[Any, ...]) -> list[str]:
    return [str(value) for value in values if isinstance(value, str | int)]


def _numbers(values: tuple[Any, ...]) -> list[int]:
    """The ids among these values, also as text; what cannot be an id matches nothing."""
    return [int(text) for text in _texts(values) if ID.match(text)]


def _any_address(values: tuple[Any, ...]) -> ColumnElement[bool]:
    texts = [stored_address(text) for text in _texts(values)]
    return or_(Host.inner_ip.in_(texts), Host.inner_ipv6.in_(texts))


def _placed_address(values: tuple[Any, ...]) -> ColumnElement[bool]:
    """Addresses written as zone:address."""
    places: dict[str, list[str]] = defaultdict(list)
    for zone, colon, address in (text.partition(":") for text in _texts(values)):
        if colon:
            places[zone].append(address)
    ways = [
        and_(Host.zone_id.in_(_numbers((zone,))), _any_address(tuple(addresses)))
        for zone, addresses in _few(places.items())
    ]
    return or_(false(), *ways)


def _fuzzy(values: tuple[Any, ...]) -> ColumnElement[bool]:
    columns = (Host.inner_ip, Host.inner_ipv6, Host.hostname, Host.agent_version)
    texts = _few(_texts(values))
    ways = [column.contains(text, autoescape=True) for column in columns for text in texts]
    return or_(_any_address(tuple(texts)), *ways)


def _few(values: Iterable[T]) -> list[T]:
    """Values that each cost a whole condition."""
    found = list(values)
    if len(found) > MOST_WAYS:
        raise InvalidRequest(f"conditions: more than {MOST_WAYS} values.", field="conditions")
    return found


def _node_from(values: tuple[Any, ...]) -> ColumnElement[bool]:
    """Who knows the host: we, once an agent of ours is on it, else only the record."""
    ours = {text == "NODE_MAN" for text in _texts(values) if text in SOURCES}
    ways = [
        Host.agent_version.is_not(None) if own else Host.agent_version.is_(None) for own in ours
    ]
    return or_(false(), *ways)


def _never_known(values: tuple[Any, ...]) -> ColumnElement[bool]:
    """What we do not keep is empty on every host."""
    return true() if {"", "0"} & set(_texts(values)) else false()


def _os(values: tuple[Any, ...]) -> ColumnElement[bool]:
    return Host.os_type.in_(["" if text == "none" else text for text in _texts(values)])


def _version(values: tuple[Any, ...]) -> ColumnElement[bool]:
    texts = _texts(values)
    ways = Host.agent_version.in_(texts)
    return or_(ways, Host.agent_version.is_(None)) if "" in texts or "-1" in texts else ways


def _topology(values: tuple[Any, ...]) -> ColumnElement[bool]:
    """Whole businesses; nobody knows which host is in a set or module, so none is."""
    whole = [
        value.get("bk_biz_id")
        for value in values
        if isinstance(value, Mapping) and not any(value.get(name) for name in WITHIN_BUSINESS)
    ]
    return Host.business_id.in_(_numbers(tuple(whole)))


def _flag(column: Any) -> Callable[[tuple[Any, ...]], ColumnElement[bool]]:
    def matches(values: tuple[Any, ...]) -> ColumnElement[bool]:
        wanted = {FLAGS.get(str(value).lower()) for value in values} - {None}
        return or_(false(), *(column if state else not_(column) for state in wanted))

    return matches


def _value_flag(name: str) -> Callable[[tuple[Any, ...]], ColumnElement[bool]]:
    return _flag(func.coalesce(Host.values[name].as_boolean(), False))


def _text_in(column: Any) -> Callable[[tuple[Any, ...]], ColumnElement[bool]]:
    return lambda values: column.in_(_texts(values))


def _number_in(column: Any) -> Callable[[tuple[Any, ...]], ColumnElement[bool]]:
    return lambda values: column.in_(_numbers(values))


def _addressing(values: tuple[Any, ...]) -> ColumnElement[bool]:
    # published documentation has numbers for the words
    return Host.addressing.in_({"0": "static", "1": "dynamic"}.get(t, t) for t in _texts(values))


CONDITIONS: Mapping[str, Callable[[tuple[Any, ...]], ColumnElement[bool]]] = {
    "inner_ip": _text_in(Host.inner_ip),
    "inner_ipv6": _any_address,
    "ip": _any_address,
    "bk_cloud_ip": _placed_address,
    "query": _fuzzy,
    "bk_host_id": _number_in(Host.id),
    "bk_cloud_id": _number_in(Host.zone_id),
    "bk_biz_id": _number_in(Host.business_id),
    "install_channel_id": _number_in(Host.install_channel_id),
    "bk_host_name": _text_in(Host.hostname),
    "bk_addressing": _addressing,
    "node_type": _text_in(Host.node_kind),
    "os_type": _os,
    "status": _text_in(Host.agent_status),
    "version": _version,
    "topology": _topology,
    "node_from": _node_from,
    "bk_agent_id": _never_known,
    "dept_name": _never_known,
    "bt_node_detection": _never_known,
    "is_manual": _flag(Host.is_manual),
    "enable_compression": _value_flag("enable_compression"),
}
