"""A rehearsal does everything a run does, and leaves nothing of it."""

from sqlalchemy import select

from app.jobs.context import Context
from app.jobs.rehearse import rehearse
from app.models.base import Base, reading


def test_nothing_of_a_rehearsal_is_left(ctx: Context) -> None:
    before = everything(ctx)
    rehearse(ctx)
    assert everything(ctx) == before
    assert ctx.queue.rq.get_job_ids() == []


def everything(ctx: Context) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the database."""
    with reading(ctx.engine) as session:
        return {
            name: [tuple(row) for row in session.execute(select(table))]
            for name, table in Base.metadata.tables.items()
        }
