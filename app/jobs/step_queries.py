"""Read parts and their steps, begun or not; nothing here writes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE, Step, Title
from app.domain.states import Status
from app.jobs.views import PartView, StepView
from app.models.base import chunks
from app.models.work import Part, StepRow

PART_COLUMNS = (
    Part.id,
    Part.target_id,
    Part.stage,
    Part.job_type,
    Part.status,
    Part.cause,
    Part.reason,
    Part.run_id,
    Part.started_at,
    Part.finished_at,
)
STEP_COLUMNS = (
    StepRow.part_id,
    StepRow.index.label("position"),  # a row has an `index` of its own
    StepRow.key,
    StepRow.status,
    StepRow.started_at,
    StepRow.finished_at,
)


def part_views(
    session: Session,
    target_ids: Sequence[int],
    stage_ids: Mapping[int, str],
    *,
    steps: bool,
    logs: bool,
) -> dict[int, tuple[PartView, ...]]:
    """The parts of these targets, each target's in the order of the stages."""
    query = select(*PART_COLUMNS).where(Part.target_id.in_(target_ids)).order_by(Part.stage)
    parts = session.execute(query).all()
    begun = _begun_steps(session, [part.id for part in parts], logs) if steps else {}
    views: dict[int, tuple[PartView, ...]] = defaultdict(tuple)
    for part in parts:
        shown = shown_steps(part, begun.get(part.id, {})) if steps else ()
        stage_id = stage_ids.get(part.stage, str(part.stage))
        views[part.target_id] += (_part_view(part, stage_id, shown),)
    return views


def _part_view(part: Any, stage_id: str, steps: tuple[StepView, ...]) -> PartView:
    return PartView(
        id=part.id,
        stage=part.stage,
        stage_id=stage_id,
        job_type=part.job_type,
        status=part.status,
        cause=part.cause,
        reason=part.reason,
        run_id=part.run_id,
        started_at=part.started_at,
        finished_at=part.finished_at,
        steps=steps,
    )


def _begun_steps(
    session: Session, part_ids: Sequence[int], logs: bool
) -> dict[int, dict[int, Any]]:
    columns = (*STEP_COLUMNS, StepRow.log) if logs else STEP_COLUMNS
    begun: dict[int, dict[int, Any]] = defaultdict(dict)
    for some in chunks(part_ids):
        for row in session.execute(select(*columns).where(StepRow.part_id.in_(some))):
            begun[row.part_id][row.position] = row
    return begun


def shown_steps(part: Any, begun: Mapping[int, Any]) -> tuple[StepView, ...]:
    """All steps of a part in order: those that have begun, and the others as they must be.

    A failed part has a failed step that holds its reason, also when no step ever began; steps
    before the last that began are done; a part that is proven OK has no open step.
    """
    steps = _planned_steps(part.job_type, begun)
    last = max(begun, default=-1)
    statuses = [_shown_status(part.status, i, begun.get(i), last) for i in range(len(steps))]
    reason_at = _reason_index(part, statuses)
    if part.status is Status.FAILED and reason_at is not None:
        statuses[reason_at] = Status.FAILED
    return tuple(
        _step_view(i, step, statuses[i], begun.get(i), part if i == reason_at else None)
        for i, step in enumerate(steps)
    )


def _planned_steps(job_type: str, begun: Mapping[int, Any]) -> tuple[Step, ...]:
    if job_type in CATALOGUE:
        return CATALOGUE[job_type].steps
    # a job type we no longer have: what was recorded is all there is
    return tuple(Step(begun[i].key, Title(begun[i].key, begun[i].key)) for i in sorted(begun))


def _shown_status(part: Status, index: int, row: Any, last: int) -> Status:
    if row is None:
        done = index < last or part is Status.SUCCESS
        return Status.SUCCESS if done else Status.PENDING
    left_open = {Status.RUNNING} if part is Status.FAILED else {Status.RUNNING, Status.PENDING}
    return part if part.is_final and row.status in left_open else Status(row.status)


def _reason_index(part: Any, statuses: Sequence[Status]) -> int | None:
    """Where the part's reason is shown: at the failed step, else where the work stopped."""
    if not part.reason or not statuses or part.status is Status.SUCCESS:
        return None
    for wanted in ({Status.FAILED}, {Status.RUNNING, Status.PENDING}):
        found = next((i for i, status in enumerate(statuses) if status in wanted), None)
        if found is not None:
            return found
    return len(statuses) - 1


def _step_view(index: int, step: Step, status: Status, row: Any, part: Any) -> StepView:
    """One step; `part` where its reason is shown, and then its end too if the step has none."""
    log = getattr(row, "log", "") or ""
    ended = row.finished_at if row else None
    if part and part.reason not in log:
        log = f"{log.rstrip()}\n{part.reason}".lstrip()
    if part and status is Status.FAILED:
        ended = ended or part.finished_at
    return StepView(
        index=index,
        key=step.key,
        title=step.title,
        status=status,
        log=log,
        started_at=row.started_at if row else None,
        finished_at=ended,
    )
