"""A login that a real sshd did not accept: it is remembered, and comes after every other."""

from dataclasses import replace

from sqlalchemy import select

from app.domain.states import Cause
from app.jobs.context import Context
from app.jobs.execute import execute_run
from app.models.access import Credential
from app.models.base import reading
from tests.api.given import submit
from tests.automation.conftest import host  # noqa: F401 - a fixture
from tests.automation.loopback import Loopback
from tests.jobs.conftest import a_host, a_login, parts_of, runs_of


def test_a_login_the_host_refused_is_remembered_as_such(ctx: Context, host: Loopback) -> None:  # noqa: F811
    login = replace(a_login("not the password"), port=host.port)
    job_id = submit(ctx, [a_host(0, login, inner_ip="127.0.0.1")])
    (run,) = runs_of(ctx, job_id)

    execute_run(ctx, run.id, "test:1:a")

    assert [part.cause for part in parts_of(ctx, job_id)] == [Cause.AUTH]
    with reading(ctx.engine) as session:
        (kept,) = session.scalars(select(Credential)).all()
    assert kept.refused_at
