"""What is installed by hand: it waits for its host's report, but not for ever."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.domain.commands import RevokeJob
from app.domain.errors import Forbidden
from app.domain.states import Cause, JobStatus, Status, TaskStatus
from app.jobs.cancel import revoke_job
from app.jobs.context import Context
from app.jobs.installer import installer_of
from app.jobs.report import expire_reports, manual_ticket, take_report
from app.jobs.retry import retry_task
from app.models.base import now, reading, transaction
from app.models.fleet import Host
from app.models.work import EventRow, Job, ReportToken, StepRow, Task
from tests.api.given import submit
from tests.jobs.conftest import a_host, parts_of

DONE = {"status": "DONE", "log": "ok", "after": {"release": {"version": "1.0.0"}}}


@pytest.fixture
def job_id(ctx: Context) -> int:
    """Two hosts wait for their command; one has an hour left, and the other one too."""
    return submit(ctx, [a_host(0), a_host(1)], "MANUAL_INSTALL_AGENT")


def ticket(ctx: Context, job_id: int, host_id: int) -> str:
    found = manual_ticket(ctx, job_id, host_id)
    assert found
    return found.token


def overdue(ctx: Context) -> None:
    """As if the deadline of everything that waits were over."""
    with transaction(ctx.engine) as session:
        session.execute(update(ReportToken).values(due_at=now() - timedelta(seconds=1)))


def tokens(ctx: Context) -> int:
    with reading(ctx.engine) as session:
        return session.scalar(select(func.count()).select_from(ReportToken)) or 0


def test_what_is_not_overdue_goes_on_waiting(ctx: Context, job_id: int) -> None:
    assert expire_reports(ctx) == 0

    assert {part.status for part in parts_of(ctx, job_id)} == {Status.RUNNING}
    take_report(ctx, ticket(ctx, job_id, 1), [DONE])


def test_an_overdue_install_fails_with_a_sentence_and_ends_the_job(
    ctx: Context, job_id: int
) -> None:
    take_report(ctx, ticket(ctx, job_id, 1), [DONE])
    late = ticket(ctx, job_id, 2)
    overdue(ctx)

    assert expire_reports(ctx) == 1

    done, part = parts_of(ctx, job_id)
    assert done.status is Status.SUCCESS
    assert (part.status, part.cause) == (Status.FAILED, Cause.TIMEOUT)
    assert part.reason == "nobody ran the install command in time; retry to get a new one"
    with reading(ctx.engine) as session:
        step = session.get_one(StepRow, (part.id, 0))
        job, task = session.get_one(Job, job_id), session.get_one(Task, 1)
        told = session.scalars(
            select(EventRow.data).where(EventRow.host_id == 2, EventRow.kind == "part")
        ).all()
    assert (step.status, step.finished_at) == (Status.FAILED, part.finished_at)
    assert part.reason in step.log
    assert (job.status, task.status) == (JobStatus.PART_FAILED, TaskStatus.FAILED)
    assert job.finished_at
    assert (told[-1]["status"], told[-1]["cause"]) == ("failed", "timeout")
    for refused in (lambda: take_report(ctx, late, [DONE]), lambda: installer_of(ctx, late, "")):
        with pytest.raises(Forbidden):
            refused()
    assert (manual_ticket(ctx, job_id, 2), expire_reports(ctx)) == (None, 0)


def test_a_retry_of_what_was_overdue_has_all_its_time_again(ctx: Context, job_id: int) -> None:
    overdue(ctx)
    assert expire_reports(ctx) == 2

    retry_task(ctx, 1, "bob")

    assert expire_reports(ctx) == 0
    for host_id in (1, 2):
        take_report(ctx, ticket(ctx, job_id, host_id), [DONE])
    with reading(ctx.engine) as session:
        assert session.get_one(Job, job_id).status is JobStatus.SUCCESS


def test_an_overdue_command_is_refused_before_the_keeper_has_looked(
    ctx: Context, job_id: int
) -> None:
    token = ticket(ctx, job_id, 1)
    overdue(ctx)

    with pytest.raises(Forbidden, match="its time is over"):
        take_report(ctx, token, [DONE])
    assert {part.status for part in parts_of(ctx, job_id)} == {Status.RUNNING}


def test_what_was_revoked_stays_revoked_when_its_deadline_comes(ctx: Context, job_id: int) -> None:
    revoke_job(ctx, RevokeJob(job_id=job_id))
    before = [(part.status, part.cause, part.reason) for part in parts_of(ctx, job_id)]
    overdue(ctx)

    assert expire_reports(ctx) == 0

    assert [(p.status, p.cause, p.reason) for p in parts_of(ctx, job_id)] == before
    assert {cause for _, cause, _ in before} == {Cause.CANCELLED}
    assert tokens(ctx) == 0


def test_a_report_that_says_twice_that_it_is_done_is_done_once(ctx: Context, job_id: int) -> None:
    take_report(ctx, ticket(ctx, job_id, 1), [DONE, DONE, {"status": "FAILED", "log": "late"}])

    assert parts_of(ctx, job_id)[0].status is Status.SUCCESS


def test_what_a_report_says_is_bounded_and_controls_nothing(ctx: Context, job_id: int) -> None:
    text = "\x1b[31mred " + "x" * 10**6
    after = {"hostname": text, "os_version": text, "release": {"version": text}}

    take_report(ctx, ticket(ctx, job_id, 1), [{"status": "DONE", "log": text, "after": after}])

    with reading(ctx.engine) as session:
        host = session.get_one(Host, 1)
        for fact in (host.hostname, host.os_version, host.agent_version):
            assert fact
            assert fact.startswith("red x")
            assert len(fact) <= 255
        logs = session.scalars(select(StepRow.log)).all()
    assert any(log.endswith("x") for log in logs)
    assert not any("\x1b" in log or len(log) > 100_000 for log in logs)
