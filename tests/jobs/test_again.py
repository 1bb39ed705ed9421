"""Trying again: whose logins may come along, what needs no worker, and rollouts that stopped."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.domain.commands import NextStage, RetryJob, RevokeJob, SubmitJob
from app.domain.errors import (
    InvalidRequest,
    LoginMissing,
    PackageMissing,
    PreconditionFailed,
    WrongState,
)
from app.domain.rollout import Rollout
from app.domain.states import Cause, JobStatus, Status
from app.jobs.cancel import revoke_job
from app.jobs.context import Context
from app.jobs.prepare import prepare_run
from app.jobs.reopen import reopen_parts
from app.jobs.report import expire_reports, manual_ticket, take_report
from app.jobs.retry import retry_job, retry_step, retry_subtask, retry_task
from app.jobs.rollback import roll_back_task
from app.jobs.rollon import roll_on
from app.jobs.settle import settle_run
from app.jobs.skip import skip_subtask
from app.jobs.submit import submit_job
from app.models.access import Credential
from app.models.base import now, reading, transaction
from app.models.fleet import HostLock
from app.models.package import Package
from app.models.work import Job, Part, ReportToken, Subtask, Target, Task
from app.packages.remove import remove_package
from tests.api.given import OK, arrange, play, submit
from tests.jobs.conftest import a_host, a_login, a_package, a_verdict, claim_next

REFUSED = ["auth", "wrong password"]


# --- Logins


@pytest.mark.parametrize("host_id", [3, 999])
def test_a_login_comes_along_only_for_a_host_that_is_tried_again(
    ctx: Context, host_id: int
) -> None:
    job_id = submit(ctx, [a_host(0), a_host(1)])
    submit(ctx, [a_host(2)])
    play(ctx, {"10.9.0.1": REFUSED, "10.9.0.2": OK})
    before = _count(ctx, Credential)

    with pytest.raises(InvalidRequest, match=f"{host_id} is not tried again"):
        retry_job(ctx, RetryJob(job_id=job_id, logins={1: a_login(), host_id: a_login("mine")}))

    assert _count(ctx, Credential) == before
    assert _count(ctx, Task) == 2


def test_a_rollback_that_could_not_log_in_does_not_begin(ctx: Context) -> None:
    then = (NextStage(job_type="RESTART_AGENT"),)
    hosts = (a_host(0), a_host(1))
    command = SubmitJob(job_type="INSTALL_AGENT", hosts=hosts, created_by="a", then=then)
    submit_job(ctx, command)
    play(ctx, {"10.9.0.1": OK, "10.9.0.2": OK})
    play(ctx, {"10.9.0.1": REFUSED, "10.9.0.2": REFUSED})
    arrange(ctx, {"logins_expired": True})

    with pytest.raises(LoginMissing, match=r"10\.9\.0\.1, 10\.9\.0\.2"):
        roll_back_task(ctx, 1, "ada")

    assert _statuses(ctx) == {Status.SUCCESS: 2, Status.FAILED: 2}


# --- Taking back what is no longer kept


@pytest.fixture
def halfway(ctx: Context) -> Context:
    """Two hosts were upgraded from 0.9.0, then could not be restarted."""
    with transaction(ctx.engine) as session:
        session.add(a_package("0.9.0"))
    then = (NextStage(job_type="RESTART_AGENT"),)
    hosts = (a_host(0), a_host(1))
    submit_job(ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=hosts, created_by="a", then=then))
    play(ctx, {"10.9.0.1": OK, "10.9.0.2": OK})
    play(ctx, {"10.9.0.1": REFUSED, "10.9.0.2": REFUSED})
    with transaction(ctx.engine) as session:
        first, second = session.scalars(select(Part).where(Part.stage == 0).order_by(Part.id))
        first.before = {"release": {"version": "0.9.0", "sha256": f"{'0.9.0':0<64}"}}
        second.before = {"release": None}
    return ctx


def forget_package(ctx: Context, version: str) -> None:
    with transaction(ctx.engine) as session:
        package = session.scalars(select(Package).where(Package.version == version)).one()
        remove_package(session, package)


def test_a_rollback_to_a_package_that_was_removed_does_not_begin(halfway: Context) -> None:
    forget_package(halfway, "0.9.0")

    with pytest.raises(PackageMissing, match=r"version 0\.9\.0 on 10\.9\.0\.1\. Add") as refused:
        roll_back_task(halfway, 1, "ada")

    assert refused.value.details["hosts"] == {"10.9.0.1": "0.9.0"}
    assert _statuses(halfway) == {Status.SUCCESS: 2, Status.FAILED: 2}


def test_a_package_added_again_lets_the_rollback_begin(halfway: Context) -> None:
    forget_package(halfway, "0.9.0")
    with transaction(halfway.engine) as session:
        session.add(a_package("0.9.0"))

    roll_back_task(halfway, 1, "ada")

    run = prepare_run(halfway, claim_next(halfway)).play
    assert run
    first, second = (machine.values for machine in run.machines)
    assert [p["version"] for p in first["hostler_packages"]] == ["0.9.0"]
    assert (first["hostler_action"], second["hostler_action"]) == ("install", "uninstall")


@pytest.mark.parametrize("again", [retry_task, roll_back_task])
def test_a_failed_rollback_is_not_tried_again_without_the_package(
    halfway: Context, again: Callable[..., None]
) -> None:
    roll_back_task(halfway, 1, "ada")
    _fail_rollback(halfway)
    forget_package(halfway, "0.9.0")

    with pytest.raises(PackageMissing):
        again(halfway, 1, "ada")


def _fail_rollback(ctx: Context) -> None:
    claim = claim_next(ctx)
    failed = dict.fromkeys(claim.parts, (Cause.AUTH, "wrong password"))
    assert settle_run(ctx, claim, a_verdict(failed=failed))


# --- Other job types than before


def test_a_stage_there_is_not_is_refused_and_the_others_are_named(ctx: Context) -> None:
    submit(ctx, [a_host(0)])
    play(ctx, {"10.9.0.1": REFUSED})

    with pytest.raises(InvalidRequest, match=r"no stage restart_agent; there are: install_agent"):
        retry_job(ctx, RetryJob(job_id=1, actions={"restart_agent": "RESTART_AGENT"}))

    assert _count(ctx, Task) == 1


def test_a_job_type_in_another_ones_place_meets_the_hosts_as_they_are(ctx: Context) -> None:
    submit(ctx, [a_host(0), a_host(1)])
    play(ctx, {"10.9.0.1": REFUSED, "10.9.0.2": REFUSED})

    with pytest.raises(PreconditionFailed, match=r"10\.9\.0\.1: no agent is installed on it"):
        retry_job(ctx, RetryJob(job_id=1, actions={"install_agent": "UPGRADE_AGENT"}))

    assert _count(ctx, Task) == 1


def test_a_job_type_in_another_ones_place_needs_its_own_login(ctx: Context) -> None:
    submit(ctx, [a_host(0)], "MANUAL_INSTALL_AGENT")
    expire(ctx)
    arrange(ctx, {"logins_expired": True})

    with pytest.raises(LoginMissing, match=r"10\.9\.0\.1"):
        retry_job(ctx, RetryJob(job_id=1, actions={"manual_install_agent": "INSTALL_AGENT"}))

    assert _count(ctx, Task) == 1


@pytest.mark.parametrize(
    ("actions", "why"),
    [
        ({"restart_agent": "REMOVE_AGENT"}, "REMOVE_AGENT cannot follow"),
        ({"restart_agent": "INSTALL_AGENT"}, "only one stage"),
        ({"install_agent": "REMOVE_AGENT"}, "REMOVE_AGENT has no stages"),
    ],
)
def test_stages_that_could_not_be_submitted_are_not_tried_either(
    ctx: Context, actions: dict[str, str], why: str
) -> None:
    then = (NextStage(job_type="RESTART_AGENT"),)
    command = SubmitJob(job_type="INSTALL_AGENT", hosts=(a_host(0),), created_by="a", then=then)
    submit_job(ctx, command)
    play(ctx, {"10.9.0.1": REFUSED})

    with pytest.raises(InvalidRequest, match=why):
        retry_job(ctx, RetryJob(job_id=1, actions=actions))


def test_a_job_type_in_another_ones_place_installs_the_version_that_was_asked_for(
    ctx: Context,
) -> None:
    with transaction(ctx.engine) as session:
        session.add(a_package("2.0.0"))
    command = SubmitJob(
        job_type="INSTALL_AGENT", hosts=(a_host(0),), created_by="a", package_version="1.0.0"
    )
    submit_job(ctx, command)
    play(ctx, {"10.9.0.1": REFUSED})

    retry_job(ctx, RetryJob(job_id=1, actions={"install_agent": "REINSTALL_AGENT"}))

    run = prepare_run(ctx, claim_next(ctx)).play
    assert run
    assert run.playbook == "reinstall_agent"
    assert [p["version"] for p in run.machines[0].values["hostler_packages"]] == ["1.0.0"]


def test_a_job_type_in_another_ones_place_needs_a_package(ctx: Context) -> None:
    submit(ctx, [a_host(0)], "IMPORT_AGENT")
    play(ctx, {"10.9.0.1": REFUSED})
    arrange(ctx, {"without_packages": True})

    with pytest.raises(PackageMissing):
        retry_job(ctx, RetryJob(job_id=1, actions={"import_agent": "REINSTALL_AGENT"}))


# --- What needs no worker


def test_a_manual_install_that_failed_waits_for_a_new_command(ctx: Context) -> None:
    job_id = submit(ctx, [a_host(0)], "MANUAL_INSTALL_AGENT")
    stored = "host|instance|host|1"
    for again in (
        lambda: retry_task(ctx, 1, "ada"),
        lambda: retry_subtask(ctx, 1, 1, "ada"),
        lambda: retry_step(ctx, job_id=job_id, instance_id=stored),
    ):
        ticket = manual_ticket(ctx, job_id, 1)
        assert ticket
        take_report(ctx, ticket.token, [{"status": "FAILED", "log": "no space left"}])
        assert _job(ctx, job_id) is JobStatus.FAILED

        again()

        assert _statuses(ctx) == {Status.RUNNING: 1}
    ticket = manual_ticket(ctx, job_id, 1)
    assert ticket
    after = {"release": {"version": "1.0.0"}}
    take_report(ctx, ticket.token, [{"status": "DONE", "log": "ok", "after": after}])
    assert _job(ctx, job_id) is JobStatus.SUCCESS


def test_a_host_is_removed_once_the_other_job_has_let_go(ctx: Context) -> None:
    submit(ctx, [a_host(0)])
    with transaction(ctx.engine) as session:
        session.add(HostLock(host_id=1, run_id=1, job_id=1))
    removal = submit(ctx, [a_host(0)], "REMOVE_AGENT")
    assert _job(ctx, removal) is JobStatus.FAILED
    with transaction(ctx.engine) as session:
        session.delete(session.get_one(HostLock, 1))

    retry_task(ctx, 2, "ada")

    assert _job(ctx, removal) is JobStatus.SUCCESS


# --- Several stages


@pytest.mark.parametrize("how", ["failed", "revoked"])
def test_a_task_is_tried_again_from_the_first_stage_that_failed(ctx: Context, how: str) -> None:
    stages = (NextStage(job_type="RELOAD_AGENT"), NextStage(job_type="RESTART_AGENT"))
    hosts = (a_host(0), a_host(1))
    submit_job(ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=hosts, created_by="a", then=stages))
    if how == "failed":
        play(ctx, {"10.9.0.1": REFUSED, "10.9.0.2": REFUSED})
    else:
        revoke_job(ctx, RevokeJob(job_id=1))
    assert _statuses(ctx) == {Status.FAILED: 6}

    retry_task(ctx, 1, "ada")

    assert _statuses(ctx) == {Status.PENDING: 6}
    assert _open_hosts(ctx) == {1, 2}
    for _stage in range(3):
        play(ctx, {"10.9.0.1": OK, "10.9.0.2": OK})
    assert _job(ctx, 1) is JobStatus.SUCCESS


def test_what_is_blocked_waits_for_no_wave(ctx: Context) -> None:
    rollout = Rollout(batches=(50, 100), soak=timedelta(hours=1))
    stages = (NextStage(job_type="RESTART_AGENT"),)
    hosts = (a_host(0), a_host(1))
    submit_job(
        ctx,
        SubmitJob(
            job_type="INSTALL_AGENT", hosts=hosts, created_by="a", then=stages, rollout=rollout
        ),
    )
    revoke_job(ctx, RevokeJob(job_id=1))
    with transaction(ctx.engine) as session:
        last = session.scalars(select(Part).order_by(Part.id.desc())).first()
        assert last
        reopen_parts(session, [last])

        roll_on(session, [1])

        assert session.get_one(Task, 1).next_wave_at is None


# --- Rollouts


@pytest.fixture
def stopped(ctx: Context) -> Context:
    """A canary failed, so four hosts in two further waves never began."""
    rollout = Rollout(canary=1, batches=(50, 100), max_failed=0)
    hosts = tuple(a_host(number) for number in range(5))
    submit_job(
        ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=hosts, created_by="a", rollout=rollout)
    )
    play(ctx, {"10.9.0.1": REFUSED})
    assert _statuses(ctx) == {Status.FAILED: 5}
    return ctx


def test_a_mended_canary_alone_starts_nothing_else(stopped: Context) -> None:
    retry_subtask(stopped, 1, 1, "ada")
    play(stopped, {"10.9.0.1": OK})

    assert _statuses(stopped) == {Status.SUCCESS: 1, Status.FAILED: 4}
    assert _open_wave(stopped) == 0


def test_after_a_mended_canary_the_waves_follow_one_by_one(stopped: Context) -> None:
    retry_task(stopped, 1, "ada")
    assert _open_hosts(stopped) == {1}
    play(stopped, {"10.9.0.1": OK})
    assert (_open_wave(stopped), _open_hosts(stopped)) == (1, {2, 3})
    play(stopped, {"10.9.0.2": OK, "10.9.0.3": OK})
    assert (_open_wave(stopped), _open_hosts(stopped)) == (2, {4, 5})
    play(stopped, {"10.9.0.4": OK, "10.9.0.5": OK})
    assert _job(stopped, 1) is JobStatus.SUCCESS


def test_without_the_skipped_canary_the_waves_go_on(stopped: Context) -> None:
    skip_subtask(stopped, 1, 1, "ada", "not ours any more")

    assert (_open_wave(stopped), _open_hosts(stopped)) == (1, {2, 3})


def test_what_the_rollout_would_stop_again_is_refused(stopped: Context) -> None:
    with reading(stopped.engine) as session:
        last = session.scalars(select(Subtask.id).order_by(Subtask.id.desc())).first()
    assert last

    with pytest.raises(WrongState, match="the rollout stopped before it"):
        retry_subtask(stopped, 1, last, "ada")

    assert _statuses(stopped) == {Status.FAILED: 5}


def test_a_wave_over_the_threshold_is_the_last(ctx: Context) -> None:
    rollout = Rollout(batches=(40, 100), max_failed=1)
    hosts = tuple(a_host(number) for number in range(5))
    submit_job(
        ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=hosts, created_by="a", rollout=rollout)
    )

    play(ctx, {"10.9.0.1": REFUSED, "10.9.0.2": REFUSED})

    assert _statuses(ctx) == {Status.FAILED: 5}
    with reading(ctx.engine) as session:
        untouched = session.scalars(select(Part.reason).where(Part.run_id.is_(None))).all()
    assert len(untouched) == 3
    assert all("the rollout stopped before it" in reason for reason in untouched)


def _count(ctx: Context, table: type) -> int:
    with reading(ctx.engine) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def expire(ctx: Context) -> None:
    """Nobody ran the install command in time."""
    with transaction(ctx.engine) as session:
        session.execute(update(ReportToken).values(due_at=now() - timedelta(days=1)))
    assert expire_reports(ctx) == 1


def _job(ctx: Context, job_id: int) -> JobStatus:
    with reading(ctx.engine) as session:
        return session.get_one(Job, job_id).status


def _statuses(ctx: Context) -> Counter[Status]:
    with reading(ctx.engine) as session:
        return Counter(session.scalars(select(Part.status).join(Target).where(Target.is_current)))


def _open_wave(ctx: Context) -> int:
    with reading(ctx.engine) as session:
        return session.get_one(Task, 1).open_wave


def _open_hosts(ctx: Context) -> set[int]:
    """The hosts whose run waits for a worker."""
    with reading(ctx.engine) as session:
        live = select(Subtask.id).where(Subtask.live_run_id.is_not(None))
        return set(session.scalars(select(Part.host_id).where(Part.subtask_id.in_(live))))
