"""Rehearse the life of a run, so that real ones find everything ready.

A work-horse is forked for each run and would compile every statement of claiming and settling anew.
What its parent has executed once it inherits compiled; the hand-off bench shows the difference.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from sqlalchemy import Engine, select

from app.access.redact import Redactor
from app.automation.events import Event, HostResult, HostStarted, Output, Verdict
from app.automation.inventory import quick_options
from app.domain.commands import AuthType, HostSpec, LoginSpec, NextStage, SubmitJob
from app.jobs.claim import Claim, claim_run
from app.jobs.context import Context
from app.jobs.prepare import prepare_run
from app.jobs.progress import write_events
from app.jobs.settle import settle_run
from app.jobs.submit import submit_job
from app.models.base import now, reading, transaction
from app.models.work import Run
from app.queue import WorkQueue

ADDRESS = "192.0.2.1"  # reserved for documentation: nobody's
OWNER = "rehearsal"


def rehearse(ctx: Context) -> None:
    """Submit, claim, prepare, record and settle in a transaction that is never committed."""
    quick_options()
    with ctx.engine.connect() as connection:
        everything = connection.begin()
        try:
            engine = cast(Engine, connection)  # sessions join the transaction it has
            _play(replace(ctx, engine=engine, queue=_Nobody(ctx.queue.url)))
        finally:
            everything.rollback()


class _Nobody(WorkQueue):
    """A queue that nothing comes out of."""

    def send(self, run_ids: Iterable[int]) -> bool:
        return True


def _play(ctx: Context) -> None:
    submitted = submit_job(ctx, _job())
    for _ in range(2):  # the second stage, whose run the end of the first one opens
        claim = _claim(ctx, submitted.task_id)
        prepare_run(ctx, claim)
        with transaction(ctx.engine) as session:
            write_events(session, claim, Redactor(()), list(_events(claim)))
        settle_run(ctx, claim, _verdict(claim))


def _job() -> SubmitJob:
    login = LoginSpec(account="root", port=22, auth_type=AuthType.PASSWORD, password=OWNER)
    host = HostSpec(
        business_id=0,
        inner_ip=ADDRESS,
        os_type="LINUX",
        login=login,
        account=login.account,
        port=login.port,
        auth_type=login.auth_type,
    )
    return SubmitJob(
        job_type="IMPORT_AGENT",
        hosts=(host,),
        created_by=OWNER,
        then=(NextStage(job_type="RESTART_AGENT"),),
    )


def _claim(ctx: Context, task_id: int) -> Claim:
    with reading(ctx.engine) as session:
        query = select(Run.id).where(Run.task_id == task_id).order_by(Run.id.desc())
        run_id = session.scalars(query).first()
    claim = claim_run(ctx, run_id, OWNER) if run_id else None
    if claim is None:
        raise LookupError("The rehearsed run was not opened.")
    return claim


def _events(claim: Claim) -> Iterable[Event]:
    phases = [{"key": step.key, "status": "ok", "seconds": 0.0} for step in claim.job_type.steps]
    for host_id in claim.parts:
        yield HostStarted(host_id, "", now())
        yield Output(host_id, "ok\n", now())
        yield HostResult(host_id, "", "ok", False, None, "", {"phases": phases}, now())


def _verdict(claim: Claim) -> Verdict:
    return Verdict(
        proven_ok=frozenset(claim.parts),
        failed={},
        not_started=frozenset(),
        outside_limit=frozenset(),
        outcome="successful",
        message="",
    )
