"""Many rows written at once are the rows that SQLAlchemy would have written one by one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.domain.commands import Submitted
from app.domain.states import Status
from app.jobs.context import Context
from app.models.base import reading, transaction
from app.models.rows import insert_rows, store_rows
from app.models.work import EventRow, StepRow

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_what_a_row_is_silent_about_has_its_default(ctx: Context) -> None:
    with transaction(ctx.engine) as session:
        insert_rows(session, EventRow, [{"job_id": 1, "seq": n, "kind": "job"} for n in (1, 2)])
    with reading(ctx.engine) as session:
        first, second = (session.get_one(EventRow, (1, n)) for n in (1, 2))
        assert first.data == second.data == {}
        assert first.host_id is None
        assert first.at == second.at
        assert first.at.tzinfo is UTC


def test_values_are_bound_as_their_columns_say(ctx: Context) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=8)))
    rows = [
        {"job_id": 1, "seq": 1, "kind": "job", "at": NOON, "data": {"漢": [1, None]}},
        {"job_id": 1, "seq": 2, "kind": "job", "at": elsewhere, "data": {}},
    ]
    with transaction(ctx.engine) as session:
        insert_rows(session, EventRow, rows)
    with reading(ctx.engine) as session:
        assert session.get_one(EventRow, (1, 1)).data == {"漢": [1, None]}
        assert session.get_one(EventRow, (1, 1)).at == session.get_one(EventRow, (1, 2)).at == NOON


def test_a_moment_without_a_zone_is_refused_and_nothing_written(ctx: Context) -> None:
    rows = [{"job_id": 1, "seq": 1, "kind": "job", "at": NOON.replace(tzinfo=None)}]
    with pytest.raises(ValueError, match="zone"), transaction(ctx.engine) as session:
        insert_rows(session, EventRow, rows)
    with reading(ctx.engine) as session:
        assert session.get(EventRow, (1, 1)) is None


def test_a_stored_row_takes_the_place_of_the_one_with_its_key(
    ctx: Context, install: Callable[..., Submitted]
) -> None:
    install(1)

    def step(status: Status, log: str) -> dict[str, object]:
        return {
            "part_id": 1, "index": 0, "key": "check", "status": status, "changed": False,
            "log": log, "run_id": 1, "started_at": NOON, "finished_at": None,
        }  # fmt: skip

    for status, log in ((Status.RUNNING, ""), (Status.FAILED, "why")):
        with transaction(ctx.engine) as session:
            store_rows(session, StepRow, [step(status, log)])
    with reading(ctx.engine) as session:
        row = session.get_one(StepRow, (1, 0))
        assert (row.status, row.log, row.started_at) == (Status.FAILED, "why", NOON)
