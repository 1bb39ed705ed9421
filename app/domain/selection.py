"""Which targets a retry takes (contracts/nodeman.md §3.4, design.md §3)."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from app.domain.states import Status

BUSY_OR_DONE = frozenset({Status.RUNNING, Status.PENDING, Status.SUCCESS})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One record of one instance in one task."""

    target_id: int
    instance_id: str
    task_id: int
    status: Status
    is_current: bool


@dataclass(frozen=True)
class Selection:
    """What to try again; when nothing is left, `held_by` says which newer task has it."""

    chosen: tuple[Candidate, ...]
    held_by: tuple[int, ...] = ()


def choose_retry(
    records: Iterable[Candidate],
    task_ids: Collection[int] = (),
    instance_ids: Collection[str] = (),
) -> Selection:
    """The current, unproven targets that this request names, oldest first."""
    records = tuple(records)
    base = [r for r in records if (r.task_id in task_ids if task_ids else r.is_current)]
    settled = {r.instance_id for r in base if r.status in BUSY_OR_DONE}
    named = frozenset(instance_ids)
    open_records = [r for r in base if r.instance_id not in settled]
    wanted = [
        r for r in open_records if (r.instance_id in named if named else r.status is Status.FAILED)
    ]
    chosen = tuple(sorted((r for r in wanted if r.is_current), key=lambda r: r.target_id))
    if chosen:
        return Selection(chosen)
    newest = {r.instance_id: r.task_id for r in records if r.is_current}
    superseded = {r.instance_id for r in wanted if not r.is_current}
    return Selection((), tuple(sorted({newest[i] for i in superseded if i in newest})))
