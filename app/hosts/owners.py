"""Find whose an address is: nobody enters another business's host by naming its address."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.errors import Forbidden
from app.domain.sentences import say
from app.models.base import chunks
from app.models.fleet import Host

ADDRESSES = ("inner_ip", "inner_ipv6", "login_ip", "outer_ip", "outer_ipv6")


class ForeignAddress(Forbidden):
    """This address belongs to a host of another business."""


class Claimed(NamedTuple):
    """An address somebody names for a host of this business."""

    zone_id: int
    business_id: int
    address: str


def foreign(session: Session, claimed: Collection[Claimed]) -> set[Claimed]:
    """Those that are, by any of their addresses, hosts of another business in the same zone."""
    owners = _owners(session, {claim.address for claim in claimed})
    return {
        claim
        for claim in claimed
        if owners.get((claim.zone_id, claim.address), set()) - {claim.business_id}
    }


def refuse_foreign(session: Session, host: Host, addresses: Iterable[str]) -> None:
    """Refuse, as ForeignAddress, to let this host be entered at an address of another business."""
    named = {one for text in addresses for one in split(text)}
    claims = [Claimed(host.zone_id, host.business_id, address) for address in named]
    for claim in sorted(foreign(session, claims)):
        raise ForeignAddress(
            say("{address} belongs to a host of another business.", address=claim.address),
            address=claim.address,
        )


def split(addresses: str | None) -> list[str]:
    """The addresses of a field that may hold several, with commas between."""
    return [one for one in (addresses or "").split(",") if one]


def _owners(session: Session, addresses: Collection[str]) -> dict[tuple[int, str], set[int]]:
    """The businesses that have a host with this address, by zone and address."""
    found: dict[tuple[int, str], set[int]] = {}
    for name in ADDRESSES:
        column = getattr(Host, name)
        for some in chunks(addresses):
            rows = session.execute(
                select(Host.zone_id, column, Host.business_id).where(
                    column.in_(some), ~Host.is_forgotten
                )
            )
            for zone_id, address, business_id in rows:
                found.setdefault((zone_id, address), set()).add(business_id)
    return found
