"""Find the host each row of a submission means."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.catalogue import JobType
from app.domain.commands import HostSpec
from app.jobs.entries import Entries, Pair
from app.models.base import chunks
from app.models.fleet import Host


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


def match_hosts(
    session: Session, job_type: JobType, specs: Sequence[HostSpec], entries: Entries
) -> None:
    """Make the list; a row that names nobody, several hosts or somebody else's is left out."""
    known = _find(session, specs)
    pairs = []
    for spec in specs:
        hosts = known.meant_by(spec)
        if named := _others_name(spec, hosts):
            # those who may not see that business are told only what the request itself says
            entries.refuse(Pair(spec, None), f"{named} belongs to another business")
            continue
        pair = Pair(spec, hosts[0] if hosts else None)
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
