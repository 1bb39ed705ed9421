"""Whatever is asked, in whatever order, and whatever dies: the invariants hold.

A state machine drives real use cases over a real SQLite file. Workers are played by the machine: it
claims, reports what Ansible would have said, settles, or dies. contracts/ocp-tasks.md §4.4,
design.md §5.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.access.redact import Redactor
from app.domain.commands import NextStage, RetryJob, RevokeJob, SubmitJob
from app.domain.errors import Conflict
from app.domain.rollout import Rollout
from app.domain.states import (
    Cause,
    Direction,
    JobStatus,
    RunStatus,
    Status,
    SubtaskStatus,
    TaskStatus,
    fold_job,
    fold_subtask,
    fold_target,
    fold_target_back,
)
from app.jobs.cancel import abort_task, cancel_subtask, revoke_job
from app.jobs.claim import Claim, claim_run
from app.jobs.confirm import confirm_task
from app.jobs.context import open_context
from app.jobs.progress import Fenced, write_events
from app.jobs.reconcile import LeaseBook, declare_lost, wake_all
from app.jobs.retry import retry_job, retry_step, retry_subtask, retry_task
from app.jobs.rollback import roll_back_task
from app.jobs.settle import Stopped, settle_run
from app.jobs.skip import skip_subtask
from app.jobs.submit import submit_job
from app.models.base import Base, now, reading, transaction
from app.models.fleet import HostLock
from app.models.work import EventRow, Job, Part, Run, RunPart, Subtask, Target, Task
from app.settings import Settings
from app.zones.first_start import ensure_first_zone
from tests.jobs.conftest import a_host, a_package, a_verdict, broke, started, worked

HOSTS = 5
SLICE = 2
ROLLOUTS = [
    None,
    None,
    Rollout(canary=1, max_failed=1),
    Rollout(canary=1, confirm=True),
    Rollout(batches=(50, 100), soak=timedelta(hours=1)),
]


class Hostler(RuleBasedStateMachine):
    """An installation whose workers, callers and accidents come in any order."""

    redis_socket = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hostler-", dir="/dev/shm"))
        self.ctx = open_context(
            Settings(
                data_dir=self.folder, redis_url=f"unix://{self.redis_socket}", slice_size=SLICE
            )
        )
        Base.metadata.create_all(self.ctx.engine)
        with transaction(self.ctx.engine) as session:
            ensure_first_zone(session)
            session.add(a_package())
        self.claims: list[Claim] = []  # of workers that live
        self.stale: list[Claim] = []  # of workers that were declared dead, or have settled
        self.clock = 0.0
        self.jobs = 0

    def teardown(self) -> None:
        self.ctx.engine.dispose()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- Callers ----------------------------------------------------------------------------

    @precondition(lambda self: self.jobs < 3)
    @rule(
        hosts=st.sets(st.integers(0, HOSTS - 1), min_size=1),
        follow=st.booleans(),
        rollout=st.sampled_from(ROLLOUTS),
    )
    def submit(self, hosts: set[int], follow: bool, rollout: Rollout | None) -> None:
        self.jobs += 1
        then = (NextStage(job_type="RELOAD_AGENT"), NextStage(job_type="RESTART_AGENT"))
        submit_job(
            self.ctx,
            SubmitJob(
                job_type="INSTALL_AGENT",
                hosts=tuple(a_host(n) for n in sorted(hosts)),
                created_by="alice",
                then=then if follow else (),
                rollout=rollout,
            ),
        )

    @rule(data=st.data(), some=st.booleans())
    def retry_a_job(self, data: st.DataObject, some: bool) -> None:
        if job := self.pick(data, Job):
            names = self.some_instances(data, job) if some else ()
            self.attempt(retry_job, RetryJob(job_id=job.id, instance_ids=names))

    @rule(data=st.data(), some=st.booleans())
    def revoke_a_job(self, data: st.DataObject, some: bool) -> None:
        if job := self.pick(data, Job):
            names = self.some_instances(data, job) if some else ()
            self.attempt(revoke_job, RevokeJob(job_id=job.id, instance_ids=names))

    @rule(data=st.data())
    def retry_a_step(self, data: st.DataObject) -> None:
        if target := self.pick(data, Target):
            self.attempt(
                lambda ctx: retry_step(ctx, job_id=target.job_id, instance_id=target.instance_id)
            )

    @rule(
        data=st.data(),
        operation=st.sampled_from([retry_subtask, skip_subtask, cancel_subtask]),
    )
    def operate_on_a_subtask(self, data: st.DataObject, operation: Callable[..., None]) -> None:
        if subtask := self.pick(data, Subtask):
            self.attempt(operation, subtask.task_id, subtask.id, "bob")

    @rule(data=st.data(), operation=st.sampled_from([retry_task, roll_back_task, confirm_task]))
    def operate_on_a_task(self, data: st.DataObject, operation: Callable[..., None]) -> None:
        if task := self.pick(data, Task):
            self.attempt(operation, task.id, "bob")

    @precondition(lambda self: self.jobs > 1)
    @rule(data=st.data())
    def abort_a_task(self, data: st.DataObject) -> None:
        if task := self.pick(data, Task):
            self.attempt(abort_task, task.id, "bob")

    # --- Workers ----------------------------------------------------------------------------

    @rule()
    def claim(self) -> None:
        with reading(self.ctx.engine) as session:
            waiting = session.scalars(
                select(Run.id).where(Run.status == RunStatus.READY).order_by(Run.id)
            ).first()
        if waiting and (claim := claim_run(self.ctx, waiting, f"w:{len(self.claims)}:{waiting}")):
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def hear_of_hosts(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        events = []
        for host in data.draw(st.sets(st.sampled_from(sorted(claim.parts)))):
            events.append(started(host))
            match data.draw(st.sampled_from(["begins", "works", "breaks"])):
                case "works":
                    events.append(worked(host))
                case "breaks":
                    events.append(broke(host))
        with transaction(self.ctx.engine) as session:
            write_events(session, claim, Redactor([]), events)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        hosts = frozenset(claim.parts)
        good = frozenset(data.draw(st.sets(st.sampled_from(sorted(hosts)))))
        bad = frozenset(data.draw(st.sets(st.sampled_from(sorted(hosts))))) - good
        stopped = Stopped()
        if self.run(claim).status is RunStatus.CANCELING:
            stopped = Stopped(proved=hosts - good - bad)
        broken = dict.fromkeys(bad, (Cause.TASK_FAILED, "it broke"))
        verdict = a_verdict(good, broken, not_started=hosts - good - bad)
        assert settle_run(self.ctx, claim, verdict, stopped)
        self.retire(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Everybody else keeps renewing; this one does not, and the keeper sees it."""
        claim = data.draw(st.sampled_from(self.claims))
        book = LeaseBook(patience=15, clock=lambda: self.clock)
        declare_lost(self.ctx, book)
        for other in self.claims:
            if other is not claim:
                with transaction(self.ctx.engine) as session:
                    session.get_one(Run, other.run_id).beat += 1
        self.clock += 15
        assert declare_lost(self.ctx, book) == 1
        self.retire(claim)

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def a_dead_worker_writes(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.stale))
        before = self.picture()
        with pytest.raises(Fenced), transaction(self.ctx.engine) as session:
            write_events(session, claim, Redactor([]), [worked(h) for h in claim.parts])
        assert not settle_run(self.ctx, claim, a_verdict(claim.parts))
        assert self.picture() == before

    @rule()
    def the_keeper_looks(self) -> None:
        wake_all(self.ctx)

    @rule()
    def an_hour_passes(self) -> None:
        """Whatever soaks has soaked for long enough."""
        with transaction(self.ctx.engine) as session:
            soaking = update(Task).where(Task.next_wave_at.is_not(None))
            session.execute(soaking.values(next_wave_at=now()))

    # --- What always holds ------------------------------------------------------------------

    @invariant()
    def one_live_run_at_most_per_subtask(self) -> None:
        with reading(self.ctx.engine) as session:
            live = Counter(
                session.scalars(select(Run.subtask_id).where(Run.status != RunStatus.ENDED))
            )
        assert all(number == 1 for number in live.values())

    @invariant()
    def a_held_host_is_locked_by_the_run_that_holds_it(self) -> None:
        with reading(self.ctx.engine) as session:
            locks = {lock.host_id: lock.run_id for lock in session.scalars(select(HostLock))}
            held = session.execute(
                select(RunPart.host_id, RunPart.run_id, Part)
                .join(Run, Run.id == RunPart.run_id)
                .join(Part, Part.id == RunPart.part_id)
                .where(Run.status.in_([RunStatus.RUNNING, RunStatus.CANCELING]))
            ).all()
        assert locks == {host: run for host, run, _ in held}

    @invariant()
    def every_cache_says_what_the_parts_say(self) -> None:
        with reading(self.ctx.engine) as session:
            for subtask in session.scalars(select(Subtask)):
                self.check_subtask(session, subtask)
            for job in session.scalars(select(Job)):
                self.check_job(session, job)

    def check_subtask(self, session: Session, subtask: Subtask) -> None:
        parts = session.scalars(select(Part).where(Part.subtask_id == subtask.id)).all()
        run = session.get(Run, subtask.live_run_id) if subtask.live_run_id else None
        expected = fold_subtask(
            [(part.status, part.cause) for part in parts],
            run.status if run else None,
            subtask.direction,
        )
        assert subtask.status is expected

    def check_job(self, session: Session, job: Job) -> None:
        counts: Counter[Status] = Counter()
        for target in session.scalars(
            select(Target).where(Target.job_id == job.id, Target.is_current)
        ):
            parts = session.scalars(select(Part).where(Part.target_id == target.id)).all()
            status = fold_target(part.status for part in parts)
            if session.get_one(Task, target.task_id).direction is Direction.BACK:
                status = fold_target_back((part.status, part.undo) for part in parts)
            assert target.status is status
            counts[status] += 1
        assert Counter({Status(k): n for k, n in job.counts.items() if n}) == counts
        live = session.scalar(
            select(func.count()).where(Run.job_id == job.id, Run.status != RunStatus.ENDED)
        )
        if not live and fold_job(counts).is_final:
            assert job.status is fold_job(counts)
        assert not (job.status.is_final and live)
        assert job.status is not JobStatus.TERMINATED or live

    @invariant()
    def a_finished_task_has_an_end_and_a_reason_for_every_part(self) -> None:
        with reading(self.ctx.engine) as session:
            for task in session.scalars(select(Task).where(Task.status != TaskStatus.RUNNING)):
                for part in session.scalars(select(Part).where(Part.task_id == task.id)):
                    if task.direction is Direction.FORWARD:
                        assert part.status.is_final
                    assert part.status is Status.SUCCESS or part.reason
                    assert part.status is not Status.FAILED or part.cause

    @invariant()
    def nothing_runs_before_what_it_waits_for(self) -> None:
        with reading(self.ctx.engine) as session:
            parts = session.scalars(select(Part)).all()
        by_place = {(part.target_id, part.stage): part for part in parts}
        for part in parts:
            earlier = by_place.get((part.target_id, part.stage - 1))
            forward = part.undo is None and part.status in (Status.RUNNING, Status.SUCCESS)
            if earlier and forward and earlier.undo is None:
                assert earlier.status is Status.SUCCESS

    @invariant()
    def what_is_not_over_has_something_alive_to_wait_for(self) -> None:
        wake_all(self.ctx)
        with reading(self.ctx.engine) as session:
            live = session.scalar(select(func.count()).where(Run.status != RunStatus.ENDED))
            for task in session.scalars(select(Task).where(Task.status == TaskStatus.RUNNING)):
                assert live or task.waits_for_person or task.next_wave_at, self.picture()

    @invariant()
    def what_is_over_waits_for_nothing(self) -> None:
        with reading(self.ctx.engine) as session:
            for task in session.scalars(select(Task).where(Task.status != TaskStatus.RUNNING)):
                assert not task.waits_for_person, self.picture()
                assert task.next_wave_at is None, self.picture()

    @invariant()
    def events_are_numbered_without_gaps(self) -> None:
        with reading(self.ctx.engine) as session:
            for job in session.scalars(select(Job)):
                numbers = session.scalars(
                    select(EventRow.seq).where(EventRow.job_id == job.id).order_by(EventRow.seq)
                ).all()
                assert numbers == list(range(1, job.last_seq + 1))

    @invariant()
    def a_failed_task_can_be_operated_on(self) -> None:
        """No state without a way out: a failed task has a failed subtask to retry or skip."""
        with reading(self.ctx.engine) as session:
            failed = select(Task).where(
                Task.status == TaskStatus.FAILED, Task.is_aborted.is_(False)
            )
            for task in session.scalars(failed):
                statuses = session.scalars(
                    select(Subtask.status).where(Subtask.task_id == task.id)
                ).all()
                assert SubtaskStatus.FAILED in statuses

    # --- Tools ------------------------------------------------------------------------------

    def attempt(self, use_case: Callable[..., object], *arguments: object) -> None:
        """A refusal is an answer, and changes nothing."""
        before = self.picture()
        try:
            use_case(self.ctx, *arguments)
        except Conflict:
            assert self.picture() == before

    def picture(self) -> list[object]:
        with reading(self.ctx.engine) as session:
            return [
                sorted(
                    (p.id, p.status, str(p.cause), p.reason, str(p.undo))
                    for p in session.scalars(select(Part))
                ),
                sorted(
                    (s.id, s.status, s.operation, s.attempt)
                    for s in session.scalars(select(Subtask))
                ),
                sorted(
                    (t.id, t.status, t.operation, t.direction)
                    for t in session.scalars(select(Task))
                ),
                sorted((j.id, j.status, j.last_seq) for j in session.scalars(select(Job))),
                sorted((r.id, r.status, r.owner) for r in session.scalars(select(Run))),
            ]

    def run(self, claim: Claim) -> Run:
        with reading(self.ctx.engine) as session:
            return session.get_one(Run, claim.run_id)

    def retire(self, claim: Claim) -> None:
        self.claims.remove(claim)
        self.stale.append(claim)

    def pick(self, data: st.DataObject, table: type[Base]) -> object:
        with reading(self.ctx.engine) as session:
            rows = session.scalars(select(table)).all()
        return data.draw(st.sampled_from(rows)) if rows else None

    def some_instances(self, data: st.DataObject, job: Job) -> tuple[str, ...]:
        with reading(self.ctx.engine) as session:
            names = session.scalars(
                select(Target.instance_id).where(Target.job_id == job.id).distinct()
            ).all()
        return tuple(data.draw(st.sets(st.sampled_from(sorted(names)), min_size=1, max_size=2)))


class TestTheMachine(Hostler.TestCase):  # type: ignore[misc,name-defined]
    """Runs the machine; the names of its steps are what a failure prints."""

    settings = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )

    @pytest.fixture(autouse=True)
    def _redis(self, redis_socket: str) -> None:
        Hostler.redis_socket = redis_socket
