"""What a proven part means for the row of its host."""

from collections.abc import Callable, Mapping
from typing import Any

from app.access.credentials import StandingGrant
from app.domain.catalogue import Effect
from app.models.base import now
from app.models.fleet import Host

CPU_LENGTH = 16  # characters of the host's column
FACT_LENGTH = 255  # characters of what a host says of itself, which lists show
Found = Mapping[str, Any]  # the `after` of the package role


def apply_effect(
    host: Host, effect: Effect, after: Found, *, keeps_standing_access: bool = False
) -> None:
    """Bring the host's row to what was proved on it."""
    host.cpu_arch = (after.get("cpu_arch") or host.cpu_arch)[:CPU_LENGTH]
    host.os_version = (after.get("os_version") or host.os_version)[:FACT_LENGTH]
    host.hostname = (after.get("hostname") or host.hostname)[:FACT_LENGTH]
    EFFECTS[effect](host, after)
    if effect in TAKES_KEY and not keeps_standing_access:
        host.drop_standing_access()
    host.agent_seen_at = now()


def note_standing_access(host: Host, grant: StandingGrant, part_id: int) -> None:
    """Remember that our key is there: for whom, proved on which way, brought by which part."""
    is_known = (host.standing_account, host.standing_way) == (grant.account, grant.way)
    host.standing_account, host.standing_way = grant.account, grant.way
    if not is_known:
        host.standing_part_id, host.standing_since = part_id, now()


TAKES_KEY = frozenset({Effect.REMOVED, Effect.FORGOTTEN})


def _installed(host: Host, after: Found) -> None:
    release = after.get("release") or {}
    host.agent_status = "RUNNING"
    host.agent_version = (release.get("version") or host.agent_version or "")[:FACT_LENGTH] or None
    host.agent_name = (release.get("name") or host.agent_name or "")[:FACT_LENGTH] or None
    host.is_forgotten = False


def _removed(host: Host, after: Found) -> None:
    host.agent_status, host.agent_version, host.agent_name = "NOT_INSTALLED", None, None


def _forgotten(host: Host, after: Found) -> None:
    _removed(host, after)
    host.agent_status, host.is_forgotten = "REMOVED", True


def _detected(host: Host, after: Found) -> None:
    if after.get("release"):
        _installed(host, after)
        host.agent_status = "RUNNING" if after.get("running") else "TERMINATED"
    else:
        host.agent_status, host.agent_version = "NOT_INSTALLED", None


EFFECTS: Mapping[Effect, Callable[[Host, Found], None]] = {
    Effect.INSTALLED: _installed,
    Effect.RUNNING: _installed,
    Effect.REMOVED: _removed,
    Effect.FORGOTTEN: _forgotten,
    Effect.DETECTED: _detected,
}
