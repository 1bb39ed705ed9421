"""How runs end: by a verdict, by a stop, or without anybody who could say how."""

from datetime import timedelta

from sqlalchemy import select, update

from app.domain.commands import RevokeJob
from app.domain.states import Cause, JobStatus
from app.jobs.cancel import revoke_job
from app.jobs.context import Context
from app.jobs.settle import settle_lost
from app.models.base import now, reading, transaction
from app.models.work import EventRow, Job, Run, Target
from tests.api.given import play, submit
from tests.jobs.conftest import a_host, parts_of, runs_of


def test_a_job_that_is_being_stopped_says_so_until_it_is(ctx: Context) -> None:
    job_id = submit(ctx, [a_host(0), a_host(1)])
    play(ctx, {"10.9.0.1": "running", "10.9.0.2": "running"}, is_over=False)
    revoke_job(ctx, RevokeJob(job_id=job_id))
    with reading(ctx.engine) as session:
        name = session.scalars(select(Target.instance_id)).first()
    assert name

    revoke_job(ctx, RevokeJob(job_id=job_id, instance_ids=(name,)))

    with reading(ctx.engine) as session:
        assert session.get_one(Job, job_id).status is JobStatus.TERMINATED


def test_a_host_that_says_what_is_no_text_ends_like_any_other(ctx: Context) -> None:
    odd = "from a log that was cut: \udcff"
    job_id = submit(ctx, [a_host(0)])

    play(ctx, {"10.9.0.1": ["agent_exited", odd]})

    (part,) = parts_of(ctx, job_id)
    assert (part.cause, part.reason) == (Cause.AGENT_EXITED, "from a log that was cut: \ufffd")


def test_what_became_of_each_host_is_told_whatever_the_worker_s_clock_said(ctx: Context) -> None:
    job_id = submit(ctx, [a_host(0)])
    play(ctx, {"10.9.0.1": "running"}, is_over=False)
    with transaction(ctx.engine) as session:
        session.execute(update(Run).values(started_at=now() + timedelta(minutes=3)))
    (run,) = runs_of(ctx, job_id)

    settle_lost(ctx, run.id, run.owner, "its worker is gone")

    with reading(ctx.engine) as session:
        told = session.scalars(select(EventRow).where(EventRow.kind == "part")).all()
    assert [event.data["status"] for event in told] == ["running", "failed"]
