"""Many rows written at once are the rows that SQLAlchemy would have written one by one."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.domain.states import Status
from app.jobs.context import Context
from app.models.base import reading, transaction
from app.models.rows import insert_rows, store_rows
from app.models.work import EventRow, LogChunk, StepRow
from tests.api.given import submit
from tests.jobs.conftest import a_host

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_what_a_row_is_silent_about_has_its_default(either_ctx: Context) -> None:
    with transaction(either_ctx.engine) as session:
        insert_rows(session, EventRow, [{"job_id": 1, "seq": n, "kind": "job"} for n in (1, 2)])
    with reading(either_ctx.engine) as session:
        first, second = (session.get_one(EventRow, (1, n)) for n in (1, 2))
        assert first.data == second.data == {}
        assert first.host_id is None
        assert first.at == second.at
        assert first.at.tzinfo is UTC


def test_values_are_bound_as_their_columns_say(either_ctx: Context) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=8)))
    rows = [
        {"job_id": 1, "seq": 1, "kind": "job", "at": NOON, "data": {"漢": [1, None]}},
        {"job_id": 1, "seq": 2, "kind": "job", "at": elsewhere, "data": {}},
    ]
    with transaction(either_ctx.engine) as session:
        insert_rows(session, EventRow, rows)
    with reading(either_ctx.engine) as session:
        assert session.get_one(EventRow, (1, 1)).data == {"漢": [1, None]}
        assert session.get_one(EventRow, (1, 1)).at == session.get_one(EventRow, (1, 2)).at == NOON


def test_a_moment_without_a_zone_is_refused_and_nothing_written(either_ctx: Context) -> None:
    rows = [{"job_id": 1, "seq": 1, "kind": "job", "at": NOON.replace(tzinfo=None)}]
    with pytest.raises(ValueError, match="zone"), transaction(either_ctx.engine) as session:
        insert_rows(session, EventRow, rows)
    with reading(either_ctx.engine) as session:
        assert session.get(EventRow, (1, 1)) is None


@pytest.mark.parametrize("text", ["", "\\N", "\\.", "a\tb\nc\rd\\e", "'\"`$%(x)s", "漢\u2028\x7f"])
def test_any_text_arrives_as_it_is(either_ctx: Context, text: str) -> None:
    rows = [
        {"job_id": 1, "seq": seq, "kind": text[:24], "data": {text: [text]}, "host_id": host}
        for seq, host in ((1, None), (2, 7))
    ]
    chunks = [
        {"run_id": 1, "offset": at, "host_id": None, "content": text.encode() + b"\0\xff"}
        for at in (0, 1)
    ]
    with transaction(either_ctx.engine) as session:
        insert_rows(session, EventRow, rows)
        insert_rows(session, LogChunk, chunks)
    with reading(either_ctx.engine) as session:
        events = session.scalars(select(EventRow).order_by(EventRow.seq)).all()
        assert [(e.kind, e.data, e.host_id) for e in events] == [
            (text[:24], {text: [text]}, None),
            (text[:24], {text: [text]}, 7),
        ]
        contents = session.scalars(select(LogChunk.content)).all()
        assert contents == [text.encode() + b"\0\xff"] * 2


def test_a_row_that_is_there_already_is_refused_with_all_the_others(either_ctx: Context) -> None:
    with transaction(either_ctx.engine) as session:
        insert_rows(session, EventRow, [{"job_id": 1, "seq": 2, "kind": "job"}])
    rows = [{"job_id": 1, "seq": n, "kind": "job"} for n in (1, 2, 3)]
    with pytest.raises(IntegrityError), transaction(either_ctx.engine) as session:
        insert_rows(session, EventRow, rows)
    with reading(either_ctx.engine) as session:
        assert session.scalars(select(EventRow.seq)).all() == [2]


def test_a_stored_row_takes_the_place_of_the_one_with_its_key(either_ctx: Context) -> None:
    submit(either_ctx, [a_host(0)])

    def step(status: Status, log: str) -> dict[str, object]:
        return {
            "part_id": 1, "index": 0, "key": "check", "status": status, "changed": False,
            "log": log, "run_id": 1, "started_at": NOON, "finished_at": None,
        }  # fmt: skip

    for status, log in ((Status.RUNNING, ""), (Status.FAILED, "why")):
        with transaction(either_ctx.engine) as session:
            store_rows(session, StepRow, [step(status, log)])
    with reading(either_ctx.engine) as session:
        row = session.get_one(StepRow, (1, 0))
        assert (row.status, row.log, row.started_at) == (Status.FAILED, "why", NOON)
