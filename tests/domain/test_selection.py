"""A retry takes the current, unproven targets the request names, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.selection import Candidate, choose_retry
from app.domain.states import Status

NAMES = ("host|instance|host|1", "host|instance|host|2", "host|instance|host|10.0.0.3-0-0")


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    """Tasks in order; each holds some instances, the newest record of an instance is current."""
    records: list[Candidate] = []
    for task_id in range(1, draw(st.integers(1, 4)) + 1):
        for name in draw(st.sets(st.sampled_from(NAMES), min_size=0 if records else 1)):
            records = [_superseded(r) if r.instance_id == name else r for r in records]
            records.append(
                Candidate(
                    target_id=len(records) + 1,
                    instance_id=name,
                    task_id=task_id,
                    status=draw(st.sampled_from(Status)),
                    is_current=True,
                )
            )
    return records


def _superseded(record: Candidate) -> Candidate:
    return Candidate(
        target_id=record.target_id,
        instance_id=record.instance_id,
        task_id=record.task_id,
        status=record.status,
        is_current=False,
    )


def reference(records: list[Candidate], task_ids: set[int], instance_ids: set[str]) -> set[int]:
    """contracts/nodeman.md §3.4, rule by rule; then design.md §3: current targets only."""
    base = []  # 1. the given tasks' records, or the latest of every instance
    for record in records:
        if task_ids:
            if record.task_id in task_ids:
                base.append(record)
        elif record.is_current:
            base.append(record)
    survivors = []  # 2. not what is running, pending or successful inside that set
    for record in base:
        mates = [other for other in base if other.instance_id == record.instance_id]
        blocking = {Status.RUNNING, Status.PENDING, Status.SUCCESS}
        if not any(mate.status in blocking for mate in mates):
            survivors.append(record)
    chosen = []  # 3. the named ones whatever their status, else the failed ones
    for record in survivors:
        if instance_ids:
            if record.instance_id in instance_ids:
                chosen.append(record)
        elif record.status is Status.FAILED:
            chosen.append(record)
    return {record.target_id for record in chosen if record.is_current}


@given(
    histories(), st.sets(st.integers(1, 5), max_size=3), st.sets(st.sampled_from(NAMES), max_size=2)
)
def test_the_rules_of_the_contract_decide(
    records: list[Candidate], task_ids: set[int], names: set[str]
) -> None:
    selection = choose_retry(records, task_ids, names)

    assert {c.target_id for c in selection.chosen} == reference(records, task_ids, names)


@given(histories())
def test_what_is_proven_is_never_tried_again(records: list[Candidate]) -> None:
    selection = choose_retry(records)

    assert all(c.is_current and c.status is Status.FAILED for c in selection.chosen)


def test_a_target_a_newer_task_has_is_not_taken_from_the_older_one() -> None:
    old = Candidate(
        target_id=1, instance_id=NAMES[0], task_id=1, status=Status.FAILED, is_current=False
    )
    new = Candidate(
        target_id=2, instance_id=NAMES[0], task_id=2, status=Status.FAILED, is_current=True
    )

    selection = choose_retry([old, new], task_ids={1})

    assert selection.chosen == ()
    assert selection.held_by == (2,)
