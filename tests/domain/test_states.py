"""States follow one table; everything above a part is folded from parts."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import Conflict
from app.domain.states import (
    TRANSITIONS,
    Cause,
    JobStatus,
    RunStatus,
    Status,
    SubtaskStatus,
    TaskStatus,
    check_transition,
    fold_job,
    fold_subtask,
    fold_target,
    fold_task,
)

STATUSES = st.lists(st.sampled_from(Status), min_size=1, max_size=12)


@pytest.mark.parametrize(("old", "new"), sorted(product(Status, Status)))
def test_only_the_table_moves_a_part(old: Status, new: Status) -> None:
    if (old, new) in TRANSITIONS:
        check_transition(old, new)
    else:
        with pytest.raises(Conflict, match=f"{old} cannot become {new}"):
            check_transition(old, new)


def test_no_status_is_a_dead_end_but_for_a_way_back() -> None:
    ways_out = {old for old, _ in TRANSITIONS}

    assert ways_out == set(Status)


@given(STATUSES)
def test_a_job_is_over_exactly_when_every_target_is(statuses: list[Status]) -> None:
    status = fold_job(Counter(statuses))

    assert status.is_final == all(one.is_final for one in statuses)


@given(STATUSES)
def test_a_finished_job_says_how_it_went(statuses: list[Status]) -> None:
    settled = [s if s.is_final else Status.FAILED for s in statuses]

    status = fold_job(Counter(settled))

    if Status.FAILED not in settled:
        assert status is JobStatus.SUCCESS
    elif Status.SUCCESS in settled:
        assert status is JobStatus.PART_FAILED
    else:
        assert status is JobStatus.FAILED


@given(STATUSES)
def test_one_failed_part_fails_its_target(parts: list[Status]) -> None:
    assert (fold_target(parts) is Status.FAILED) == (Status.FAILED in parts)


@given(STATUSES, st.randoms())
def test_the_order_of_parts_means_nothing(parts: list[Status], random: object) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert fold_target(parts) is fold_target(shuffled)


@pytest.mark.parametrize("run", [RunStatus.READY, RunStatus.RUNNING, RunStatus.CANCELING])
def test_a_live_run_speaks_for_its_subtask(run: RunStatus) -> None:
    assert fold_subtask([(Status.FAILED, Cause.AUTH)], run).name == run.name


def test_a_subtask_whose_parts_wait_for_a_retry_upstream_is_pending() -> None:
    parts = [(Status.SUCCESS, None), (Status.FAILED, Cause.UPSTREAM)]

    assert fold_subtask(parts, None) is SubtaskStatus.PENDING


def test_a_subtask_runs_while_a_person_does_some_of_it() -> None:
    parts = [(Status.FAILED, Cause.TASK_FAILED), (Status.RUNNING, None), (Status.PENDING, None)]

    assert fold_subtask(parts, None) is SubtaskStatus.RUNNING


def test_a_subtask_with_a_failure_of_its_own_has_failed() -> None:
    parts = [(Status.FAILED, Cause.TASK_FAILED), (Status.FAILED, Cause.UPSTREAM)]

    assert fold_subtask(parts, None) is SubtaskStatus.FAILED


@given(st.lists(st.sampled_from(SubtaskStatus), min_size=1), st.booleans())
def test_a_task_runs_while_anything_of_it_is_alive(
    subtasks: list[SubtaskStatus], waits: bool
) -> None:
    alive = {SubtaskStatus.READY, SubtaskStatus.RUNNING, SubtaskStatus.CANCELING}

    status = fold_task(subtasks, waits)

    assert (status is TaskStatus.RUNNING) == (waits or bool(alive & set(subtasks)))
