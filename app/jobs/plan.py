"""Plan a task: parts for every target and stage, cut into subtasks, connected by edges."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.domain.catalogue import JobType
from app.domain.graph import Graph, connect_slices
from app.domain.states import Status
from app.models.rows import insert_rows
from app.models.work import Edge, Part, Subtask, Task

NAME_LENGTH = 128


@dataclass(frozen=True)
class PlannedTarget:
    """A target that was just written."""

    id: int
    host_id: int
    wave: int = 0


@dataclass(frozen=True)
class _Slice:
    """Targets of one wave that one subtask of each stage takes."""

    wave: int
    targets: Sequence[PlannedTarget]


def plan_task(
    session: Session,
    task: Task,
    stages: Sequence[JobType],
    targets: Sequence[PlannedTarget],
    slice_size: int = 0,
    language: str = "en",
) -> None:
    """Write the subtasks, parts and edges of a task; the slices of all stages align.

    Waves follow each other: the first stage of one waits for the last stage of the one before.
    """
    size = slice_size or min(stage.slice_size for stage in stages)
    slices = _cut(targets, size)
    layers = []
    for index, stage in enumerate(stages):
        subtasks = _write_subtasks(session, task, index, stage, slices, language)
        _write_parts(session, task, index, stage, subtasks, slices)
        layers.append(dict(enumerate(subtasks)))
    edges = [
        *connect_slices(layers, [stage.barrier for stage in stages]),
        *_connect_waves(slices, layers[0], layers[-1]),
    ]
    Graph(tuple(node for layer in layers for node in layer.values()), tuple(edges)).in_order()
    if edges:
        insert_rows(
            session,
            Edge,
            [{"upstream_id": u, "downstream_id": d, "task_id": task.id} for u, d in edges],
        )


def _cut(targets: Sequence[PlannedTarget], size: int) -> list[_Slice]:
    slices = []
    for wave in sorted({target.wave for target in targets}):
        members = [target for target in targets if target.wave == wave]
        slices += [
            _Slice(wave, members[start : start + size]) for start in range(0, len(members), size)
        ]
    return slices


def _connect_waves(
    slices: Sequence[_Slice], first: dict[int, int], last: dict[int, int]
) -> list[tuple[int, int]]:
    waves: dict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(slices):
        waves[piece.wave].append(index)
    return [
        (last[earlier], first[later])
        for before, after in pairwise(sorted(waves))
        for earlier in waves[before]
        for later in waves[after]
    ]


def _write_subtasks(
    session: Session,
    task: Task,
    stage: int,
    job_type: JobType,
    slices: Sequence[_Slice],
    language: str,
) -> list[int]:
    rows = [
        {
            "task_id": task.id,
            "job_id": task.job_id,
            "series": stage * len(slices) + index,
            "stage": stage,
            "slice": index,
            "wave": piece.wave,
            "job_type": job_type.name,
            "name": job_type.title.in_language(language)[:NAME_LENGTH],
        }
        for index, piece in enumerate(slices)
    ]
    statement = insert(Subtask).returning(Subtask.id, sort_by_parameter_order=True)
    return list(session.scalars(statement, rows))


def _write_parts(
    session: Session,
    task: Task,
    stage: int,
    job_type: JobType,
    subtasks: Sequence[int],
    slices: Sequence[_Slice],
) -> None:
    rows = [
        {
            "target_id": target.id,
            "task_id": task.id,
            "job_id": task.job_id,
            "host_id": target.host_id,
            "subtask_id": subtask_id,
            "stage": stage,
            "job_type": job_type.name,
            "status": Status.PENDING,
        }
        for subtask_id, piece in zip(subtasks, slices, strict=True)
        for target in piece.targets
    ]
    insert_rows(session, Part, rows)
