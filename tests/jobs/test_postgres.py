"""The same engine on PostgreSQL: claims, locks and settles of many workers at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from app.access.redact import Redactor
from app.domain.commands import Idempotency, SubmitJob
from app.domain.errors import WrongState
from app.domain.states import Cause, JobStatus, RunStatus, Status
from app.jobs.claim import claim_run
from app.jobs.context import Context
from app.jobs.once import do_once
from app.jobs.progress import write_events
from app.jobs.report import expire_reports
from app.jobs.retry import retry_subtask
from app.jobs.settle import settle_run
from app.jobs.submit import submit_job
from app.models.base import now, reading, transaction
from app.models.counter import take_turn
from app.models.fleet import Host, HostLock
from app.models.work import EventRow, Job, Part, ReportToken, Run, Subtask
from tests.jobs.conftest import a_host, a_verdict, broke, claim_next, started, worked

HOSTS = 6
BROKEN = (Cause.TASK_FAILED, "it broke")


@pytest.fixture
def ctx(postgres_ctx: Context) -> Context:
    return postgres_ctx


def install(ctx: Context, hosts: list[int]) -> int:
    rows = tuple(a_host(n) for n in hosts)
    command = SubmitJob(job_type="INSTALL_AGENT", hosts=rows, created_by="alice")
    return submit_job(ctx, command).job_id


def test_of_many_requests_under_one_key_one_starts_a_job(ctx: Context) -> None:
    asked = Idempotency(owner="app flows", key="k1", fingerprint="f")

    with ThreadPoolExecutor(4) as pool:
        heard = list(
            pool.map(lambda _: do_once(ctx, asked, lambda c: {"id": install(c, [1])}), range(4))
        )

    assert [answer for answer, _ in heard] == [{"id": 1}] * 4
    assert sorted(repeated for _, repeated in heard) == [False, True, True, True]


def test_many_callers_and_workers_meet_on_the_same_hosts(ctx: Context) -> None:
    with ThreadPoolExecutor(6) as threads:
        jobs = list(threads.map(lambda n: install(ctx, [n, (n + 1) % HOSTS, 3]), range(HOSTS)))
        for _ in range(40):
            if not any(list(threads.map(lambda n: work(ctx, n), range(4)))):
                break

    with reading(ctx.engine) as session:
        assert session.scalar(select(func.count()).select_from(Host)) == HOSTS
        assert session.scalars(select(HostLock)).all() == []
        for job_id in jobs:
            job = session.get_one(Job, job_id)
            assert job.status is JobStatus.SUCCESS, (job.counts, job.status)
            numbers = session.scalars(
                select(EventRow.seq).where(EventRow.job_id == job_id).order_by(EventRow.seq)
            ).all()
            assert numbers == list(range(1, job.last_seq + 1))


def work(ctx: Context, number: int) -> bool:
    """What a worker does with the next run, if there is one and nobody else has it."""
    with reading(ctx.engine) as session:
        waiting = session.scalars(
            select(Run.id).where(Run.status == RunStatus.READY).order_by(func.random())
        ).first()
    if waiting is None:
        return False
    if claim := claim_run(ctx, waiting, f"worker:{number}:{waiting}"):
        events = [event for host in claim.parts for event in (started(host), worked(host))]
        with transaction(ctx.engine) as session:
            write_events(session, claim, Redactor([]), events)
        assert settle_run(ctx, claim, a_verdict(claim.parts))
    return True


def test_one_of_forty_identical_retries_is_accepted(ctx: Context) -> None:
    job_id = install(ctx, [1])
    claim = claim_next(ctx)
    with transaction(ctx.engine) as session:
        write_events(session, claim, Redactor([]), [broke(host) for host in claim.parts])
    settle_run(ctx, claim, a_verdict(failed=dict.fromkeys(claim.parts, BROKEN)))

    def ask(_number: int) -> bool:
        try:
            retry_subtask(ctx, claim.task_id, claim.subtask_id, "bob")
        except WrongState:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        accepted = list(threads.map(ask, range(40)))

    assert sum(accepted) == 1
    with reading(ctx.engine) as session:
        assert session.get_one(Subtask, claim.subtask_id).attempt == 2
        statuses = session.scalars(select(Part.status).where(Part.job_id == job_id)).all()
    assert statuses == [Status.PENDING]


def test_a_host_that_says_what_is_no_text_costs_its_neighbour_nothing(ctx: Context) -> None:
    job_id = install(ctx, [1, 2])
    claim = claim_next(ctx)
    odd, other = claim.parts
    said = broke(odd, Cause.AGENT_EXITED, "from a log with holes: \0")

    with transaction(ctx.engine) as session:
        write_events(session, claim, Redactor([]), [said, worked(other)])

    with reading(ctx.engine) as session:
        rows = select(Part.status, Part.reason).where(Part.job_id == job_id).order_by(Part.id)
        assert session.execute(rows).all() == [
            (Status.FAILED, "from a log with holes: \ufffd"),
            (Status.SUCCESS, "changed"),
        ]


def test_two_workers_never_have_one_run(ctx: Context) -> None:
    install(ctx, [1, 2])

    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda n: claim_run(ctx, 1, f"w:{n}:x"), range(16)))

    assert len([claim for claim in claims if claim]) == 1


def test_a_report_that_is_being_written_is_not_overdue(ctx: Context) -> None:
    command = SubmitJob(job_type="MANUAL_INSTALL_AGENT", hosts=(a_host(1),), created_by="alice")
    submit_job(ctx, command)
    with transaction(ctx.engine) as session:
        session.execute(update(ReportToken).values(due_at=now() - timedelta(seconds=1)))

    with ThreadPoolExecutor(1) as threads:
        with transaction(ctx.engine) as session:
            take_turn(session)
            session.scalars(select(Part)).one().move_to(Status.SUCCESS, "reported by the host")
            session.delete(session.scalars(select(ReportToken)).one())
            session.flush()
            overdue = threads.submit(expire_reports, ctx)
            await_somebody_waiting(ctx)
        assert overdue.result() == 0

    with reading(ctx.engine) as session:
        assert session.scalars(select(Part.status)).all() == [Status.SUCCESS]


def await_somebody_waiting(ctx: Context) -> None:
    """Until a transaction waits for another one."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ctx.engine.connect() as connection:
        while not connection.scalar(waiting):
            connection.rollback()
            threading.Event().wait(0.02)
