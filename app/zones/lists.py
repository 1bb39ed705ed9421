"""List zones, access points and install channels."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.models.fleet import AccessPoint, Host, InstallChannel, Zone

ALIVE = "RUNNING"


@dataclass(frozen=True, kw_only=True)
class ZoneView:
    """A zone, and how many hosts of each kind it has."""

    id: int
    name: str
    isp: str
    access_point_id: int
    access_point_name: str
    agents: int
    proxies: int
    alive_proxies: int


def list_zones(session: Session) -> list[ZoneView]:
    """Every zone, by its number."""
    counts = _counts(session)
    query = select(Zone, AccessPoint.name).join(AccessPoint, AccessPoint.id == Zone.access_point_id)
    return [
        _zone_view(zone, name, counts) for zone, name in session.execute(query.order_by(Zone.id))
    ]


def list_access_points(session: Session) -> list[AccessPoint]:
    """Every access point that may be used."""
    query = select(AccessPoint).where(AccessPoint.is_enabled).order_by(AccessPoint.id)
    return list(session.scalars(query))


def list_install_channels(session: Session, with_hidden: bool = False) -> list[InstallChannel]:
    """Every install channel; hidden ones only on demand."""
    query = select(InstallChannel).order_by(InstallChannel.id)
    return list(session.scalars(query if with_hidden else query.where(~InstallChannel.is_hidden)))


def _counts(session: Session) -> Mapping[tuple[int, str, bool], int]:
    """Hosts by zone, kind, and whether they are alive."""
    is_alive = Host.agent_status == ALIVE
    query = (
        select(Host.zone_id, Host.node_kind, is_alive, func.count())
        .where(~Host.is_forgotten)
        .group_by(Host.zone_id, Host.node_kind, is_alive)
    )
    rows = session.execute(query)
    return {(zone, kind, bool(alive)): number for zone, kind, alive, number in rows}


def _zone_view(
    zone: Zone, access_point_name: str, counts: Mapping[tuple[int, str, bool], int]
) -> ZoneView:
    def count(kind: str, *alive: bool) -> int:
        return sum(counts.get((zone.id, kind, state), 0) for state in alive)

    return ZoneView(
        id=zone.id,
        name=zone.name,
        isp=zone.isp,
        access_point_id=zone.access_point_id,
        access_point_name=access_point_name,
        agents=count("AGENT", True, False),
        proxies=count("PROXY", True, False),
        alive_proxies=count("PROXY", True),
    )
