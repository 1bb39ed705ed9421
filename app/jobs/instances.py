"""Which of a job's targets a caller means by an instance id (contracts/nodeman.md §3.1)."""

from collections.abc import Iterable

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.domain.addresses import stored_address
from app.models.base import chunks
from app.models.fleet import Host
from app.models.work import Target

PREFIX = "host|instance|host|"
MAX_DIGITS = 19  # of an id that a database can hold


def stored_names(session: Session, job_id: int, asked: Iterable[str]) -> dict[str, str]:
    """Under which name each is stored: a host may be called by its id or by its address.

    A name that fits no target of the job stays as it is.
    """
    names = list(dict.fromkeys(asked))
    stored = {name: name for name in names}
    known = set[str]()
    for some in chunks(names):
        query = select(Target.instance_id).where(
            Target.job_id == job_id, Target.instance_id.in_(some)
        )
        known.update(session.scalars(query))
    by_host = _hosts_meant(session, [name for name in names if name not in known])
    for some in chunks(set(by_host.values())):
        pairs = select(Target.host_id, Target.instance_id).where(
            Target.job_id == job_id, Target.host_id.in_(some)
        )
        found = dict(session.execute(pairs).all())
        stored |= {name: found[host] for name, host in by_host.items() if host in found}
    return stored


def _hosts_meant(session: Session, names: Iterable[str]) -> dict[str, int]:
    """The host each of these names means, where it can be told."""
    meant, at = {}, {}
    for name in names:
        ident = name.removeprefix(PREFIX)
        address, _, zone = ident.removesuffix("-0").rpartition("-")
        if ident == name:
            continue
        if ident.isdecimal() and len(ident) < MAX_DIGITS:
            meant[name] = int(ident)
        elif ident.count("-") == 2 and zone.isdecimal() and len(zone) < MAX_DIGITS:
            at[int(zone), stored_address(address)] = name
    for some in chunks({address for _, address in at}):
        query = select(Host.id, Host.zone_id, Host.inner_ip, Host.inner_ipv6).where(
            or_(Host.inner_ip.in_(some), Host.inner_ipv6.in_(some))
        )
        for host_id, zone_id, *addresses in session.execute(query):
            meant |= {at[zone_id, a]: host_id for a in addresses if a and (zone_id, a) in at}
    return meant
