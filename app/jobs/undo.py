"""What taking a part back means on its host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.catalogue import CATALOGUE, Effect, TakeBack
from app.domain.states import Cause, Status
from app.models.work import Part, Target

PLAYBOOK = "roll_back"
# with these causes nobody knows how far the host had come
UNKNOWN = frozenset({Cause.LOST, Cause.TIMEOUT, Cause.CONNECTION_LOST, Cause.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class TakingBack:
    """The action of the package role that puts back what was there."""

    action: str
    effect: Effect
    values: Mapping[str, Any]  # the host's settings before this task
    version: str | None = None
    sha256: str | None = None


def must_undo(part: Part) -> bool:
    """Whether this part may have left something on its host."""
    if CATALOGUE[part.job_type].take_back is TakeBack.NOTHING:
        return False
    if part.status is Status.SUCCESS:
        return True
    return part.has_started and (part.before is not None or part.cause in UNKNOWN)


def undo_of(part: Part, target: Target) -> TakingBack:
    """How this part is taken back; what it saw on the host decides, else what we knew before."""
    values = target.snapshot.get("values_before") or {}
    if CATALOGUE[part.job_type].take_back is TakeBack.CONFIG:
        return TakingBack(action="reload", effect=Effect.RUNNING, values=values)
    release = _release_before(part, target)
    if not release:
        return TakingBack(action="uninstall", effect=Effect.REMOVED, values=values)
    return TakingBack(
        action="install",
        effect=Effect.INSTALLED,
        values=values,
        version=release.get("version"),
        sha256=release.get("sha256"),
    )


def _release_before(part: Part, target: Target) -> Mapping[str, Any] | None:
    if part.before is not None:
        return part.before.get("release") or None
    version = target.snapshot.get("agent_version")
    return {"version": version} if version else None
