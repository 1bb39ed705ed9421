"""Find the host each row of a submission means."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.catalogue import JobType
from app.domain.commands import HostSpec
from app.domain.sentences import say
from app.hosts.owners import ADDRESSES, Claimed, foreign, split
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
    meant = [known.meant_by(spec) for spec in specs]
    claims = [_claims(spec, hosts) for spec, hosts in zip(specs, meant, strict=True)]
    others = foreign(session, {claim for some in claims for claim in some})
    pairs = []
    for spec, hosts, claimed in zip(specs, meant, claims, strict=True):
        taken = next((claim.address for claim in claimed if claim in others), None)
        if named := _others_name(spec, hosts) or taken:
            # those who may not see that business are told only what the request itself says
            entries.refuse(Pair(spec, None), f"{named} belongs to another business")
            continue
        pair = Pair(spec, hosts[0] if hosts else None)
        if reason := _mismatch(job_type, spec, hosts):
            entries.refuse(pair, reason)
            continue
        pairs.append(pair)
    entries.keep(pairs)


def _claims(spec: HostSpec, hosts: list[Host]) -> list[Claimed]:
    """Every address this row wants its host to be entered at."""
    known = hosts[0] if len(hosts) == 1 and not hosts[0].is_forgotten else None
    business_id = spec.business_id if known is None else known.business_id
    zone_id = spec.zone_id if known is None else known.zone_id
    return [
        Claimed(zone_id, -1 if business_id is None else business_id, address)
        for name in ADDRESSES
        for address in split(getattr(spec, name))
    ]


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
    if host and not gone and (other := _other_address(job_type, spec, host)):
        return say(
            "host {host} is {label}, not {other}", host=host.id, label=host.label, other=other
        )
    if gone and not job_type.registers:
        return (
            f"{spec.label} is not a known host in zone {spec.zone_id}; install or import it first"
        )
    if host is None or gone:
        return None
    if host.node_kind != job_type.node.value:
        return f"{host.label} is a {host.node_kind}; {job_type.name} is for a {job_type.node.value}"
    return None


def _other_address(job_type: JobType, spec: HostSpec, host: Host) -> str | None:
    """An address this row names that is not the host's; only an install found by address moves it.

    Anything else would change where a host is by a job that may fail (contracts/nodeman.md §2.1).
    """
    if job_type.registers and spec.host_id is None:
        return None
    for name in ("inner_ip", "inner_ipv6"):
        said, is_at = getattr(spec, name), getattr(host, name)
        if said and is_at and said != is_at:
            return str(said)
    return None
