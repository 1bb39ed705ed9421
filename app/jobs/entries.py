"""The hosts of a submission while it is decided who takes part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.domain.commands import FilteredHost, HostSpec
from app.models.fleet import Host, Zone, business_called


@dataclass(frozen=True)
class Pair:
    """A row of the request, and the host we know by it, if any."""

    spec: HostSpec
    host: Host | None

    @property
    def brings_login(self) -> bool:
        """Whether a new secret came along."""
        return self.spec.login is not None and self.spec.login.has_secret


@dataclass
class Entries:
    """The list while it is being made, and the names of the places in it."""

    zones: Mapping[int, Zone]
    businesses: Mapping[int, str]
    pairs: list[Pair] = field(default_factory=list)
    filtered: list[FilteredHost] = field(default_factory=list)

    def keep(self, pairs: Iterable[Pair]) -> None:
        """Only these are left."""
        self.pairs = list(pairs)

    def refuse(self, pair: Pair, reason: str, **more: str) -> None:
        """Leave this row out, and note why."""
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
