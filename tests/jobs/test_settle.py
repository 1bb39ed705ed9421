"""How runs end: by a verdict, by a stop, or without anybody who could say how."""

from sqlalchemy import select

from app.domain.commands import RevokeJob
from app.domain.states import JobStatus
from app.jobs.cancel import revoke_job
from app.jobs.context import Context
from app.models.base import reading
from app.models.work import Job, Target
from tests.api.given import play, submit
from tests.jobs.conftest import a_host


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
