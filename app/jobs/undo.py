"""What taking a part back means on its host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE, Effect, JobType, TakeBack
from app.domain.errors import PackageMissing
from app.domain.states import Cause, Status, Undo
from app.models.fleet import Host
from app.models.package import Package
from app.models.work import Part, Subscription, Target, Task
from app.packages.choose import choose_packages

PLAYBOOK = "roll_back"
SHOWN = 10  # hosts of a version that a refusal names
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
    keeps_standing_access: bool = False  # our key was there before this part

    @property
    def needs_package(self) -> bool:
        return self.effect is Effect.INSTALLED


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
    release = state_before(part, target).get("release")
    if not release:
        return TakingBack(
            action="uninstall",
            effect=Effect.REMOVED,
            values=values,
            keeps_standing_access=bool((part.before or {}).get("standing_key")),
        )
    return TakingBack(
        action="install",
        effect=Effect.INSTALLED,
        values=values,
        version=release.get("version"),
        sha256=release.get("sha256"),
    )


def state_before(part: Part, target: Target) -> dict[str, Any]:
    """What was on the host: as the part found it, else as we knew it."""
    if part.before is not None:
        return part.before
    version = target.snapshot.get("agent_version")
    return {"release": {"version": version} if version else None}


def find_former(
    session: Session, job_type: JobType, name: str | None, version: str | None, sha256: str | None
) -> Sequence[Package]:
    """What is put back: the very package that was there, else those of its version."""
    if sha256 is None:
        return choose_packages(session, job_type.node.value.lower(), "LINUX", version, name)
    same = select(Package).where(Package.sha256 == sha256, Package.ready)
    return session.scalars(same).all()


def stage_of(session: Session, task: Task, job_type: JobType) -> Mapping[str, Any]:
    """What the subscription says of the stage this job type has in this task."""
    subscription = session.get_one(Subscription, task.subscription_id)
    # a retry may put another job type in a stage's place
    stages = {task.actions.get(stage["id"]): stage for stage in subscription.stages}
    found: Mapping[str, Any] = stages.get(job_type.name, {})
    return found


def check_former(session: Session, task: Task) -> None:
    """Refuse before anything begins, as PackageMissing, to put back what is no longer kept."""
    due = (
        select(Part, Target, Host)
        .join(Target, Target.id == Part.target_id)
        .join(Host, Host.id == Part.host_id)
        .where(Part.task_id == task.id, Part.undo == Undo.DUE)
        .order_by(Part.id)
    )
    find, stage = cache(partial(find_former, session)), cache(partial(stage_of, session, task))
    lost: dict[str, list[str]] = {}
    for part, target, host in session.execute(due):
        back, job_type = undo_of(part, target), CATALOGUE[part.job_type]
        version, name = back.version or host.agent_version, stage(job_type).get("package_name")
        if back.needs_package and not find(job_type, name, version, back.sha256):
            lost.setdefault(version or "", []).append(host.label)
    if lost:
        raise PackageMissing(_gone(lost), hosts={h: v for v, hosts in lost.items() for h in hosts})


def _gone(lost: Mapping[str, Sequence[str]]) -> str:
    versions = []
    for version, hosts in lost.items():
        more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
        versions.append(f"version {version} on {', '.join(hosts[:SHOWN])}{more}")
    return (
        f"What was there before is no longer kept as a package: {'; '.join(versions)}. "
        "Add that very package again with `hostler package add FILE`, then try again."
    )
