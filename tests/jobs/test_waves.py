"""Between the waves of a rollout: the time it soaks, a person's word, and what ends the waiting."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.domain.commands import RevokeJob, SubmitJob
from app.domain.errors import WrongState
from app.domain.rollout import Rollout
from app.domain.states import Cause, JobStatus, Status, TaskStatus
from app.jobs.cancel import cancel_subtask, revoke_job
from app.jobs.confirm import confirm_task
from app.jobs.context import Context
from app.jobs.reconcile import wake_all
from app.jobs.retry import retry_subtask
from app.jobs.rollback import roll_back_task
from app.jobs.submit import submit_job
from app.keeper import Keeper
from app.models.base import now, reading, transaction
from app.models.work import Job, Part, Run, Subtask, Task
from tests.api.given import OK, play
from tests.jobs.conftest import a_host, parts_of

REFUSED = ["auth", "wrong password"]
SOAK = timedelta(hours=1)


def roll_out(ctx: Context, **rollout: object) -> None:
    """Install on five hosts in waves of one, two and two, unless the rollout says otherwise."""
    values: dict[str, object] = {"canary": 1, "batches": (50, 100)}
    command = SubmitJob(
        job_type="INSTALL_AGENT",
        hosts=tuple(a_host(number) for number in range(5)),
        created_by="alice",
        rollout=Rollout(**(values | rollout)),  # type: ignore[arg-type]
    )
    submit_job(ctx, command)


def task_of(ctx: Context) -> Task:
    with reading(ctx.engine) as session:
        return session.get_one(Task, 1)


def job_of(ctx: Context) -> JobStatus:
    with reading(ctx.engine) as session:
        return session.get_one(Job, 1).status


def open_hosts(ctx: Context) -> set[int]:
    """The hosts whose run waits for a worker."""
    with reading(ctx.engine) as session:
        live = select(Subtask.id).where(Subtask.live_run_id.is_not(None))
        return set(session.scalars(select(Part.host_id).where(Part.subtask_id.in_(live))))


def soaked(ctx: Context) -> None:
    """As if the rollout had soaked for as long as it should."""
    with transaction(ctx.engine) as session:
        session.get_one(Task, 1).next_wave_at = now()


# --- Soaking


def test_the_next_wave_opens_only_when_its_time_has_come(ctx: Context) -> None:
    roll_out(ctx, soak=SOAK)
    began = now()
    for hosts, following in (({1}, {2, 3}), ({2, 3}, {4, 5})):
        assert open_hosts(ctx) == hosts
        play(ctx, {f"10.9.0.{host}": OK for host in hosts})

        due = task_of(ctx).next_wave_at
        assert due
        assert began + SOAK <= due <= now() + SOAK
        assert (wake_all(ctx), open_hosts(ctx)) == (0, set())
        assert task_of(ctx).next_wave_at == due, "looking at it does not put it off"
        assert (task_of(ctx).status, job_of(ctx)) == (TaskStatus.RUNNING, JobStatus.RUNNING)

        soaked(ctx)
        assert (wake_all(ctx), open_hosts(ctx)) == (1, following)
        assert task_of(ctx).next_wave_at is None

    play(ctx, {"10.9.0.4": OK, "10.9.0.5": OK})
    assert job_of(ctx) is JobStatus.SUCCESS, "after the last wave there is nothing to wait for"
    assert task_of(ctx).next_wave_at is None


def test_the_keeper_opens_the_wave_whose_time_has_come(ctx: Context) -> None:
    roll_out(ctx, soak=SOAK)
    play(ctx, {"10.9.0.1": OK})
    soaked(ctx)

    Keeper(ctx).turn()

    assert open_hosts(ctx) == {2, 3}
    assert len(ctx.queue.rq.get_job_ids()) == 2, (
        "and it is offered to the workers, as the first was"
    )


def test_a_canary_that_failed_is_not_soaked(ctx: Context) -> None:
    roll_out(ctx, soak=SOAK)

    play(ctx, {"10.9.0.1": REFUSED})

    assert job_of(ctx) is JobStatus.FAILED
    assert task_of(ctx).next_wave_at is None


def test_a_retry_within_the_wave_begins_the_soak_anew(ctx: Context) -> None:
    roll_out(ctx, canary=0, soak=SOAK)
    play(ctx, {"10.9.0.1": OK, "10.9.0.2": OK, "10.9.0.3": REFUSED})
    first = task_of(ctx).next_wave_at
    assert first

    retry_subtask(ctx, 1, 1, "bob")

    assert open_hosts(ctx) >= {3}
    assert task_of(ctx).next_wave_at is None, "nothing soaks while a host is worked on"
    play(ctx, {"10.9.0.3": OK})
    again = task_of(ctx).next_wave_at
    assert again
    assert again > first
    assert open_hosts(ctx) == set()


def test_after_the_soak_a_person_is_asked_and_not_before(ctx: Context) -> None:
    roll_out(ctx, soak=SOAK, confirm=True)
    play(ctx, {"10.9.0.1": OK})

    with pytest.raises(WrongState, match="does not wait for a person"):
        confirm_task(ctx, 1, "bob")
    soaked(ctx)
    wake_all(ctx)
    assert (task_of(ctx).waits_for_person, open_hosts(ctx)) == (True, set())
    confirm_task(ctx, 1, "bob")

    assert (task_of(ctx).waits_for_person, open_hosts(ctx)) == (False, {2, 3})


# --- What ends the waiting


@pytest.mark.parametrize("waits", ["soak", "confirm"])
def test_a_revoked_rollout_waits_for_nothing_any_more(ctx: Context, waits: str) -> None:
    roll_out(ctx, **{waits: SOAK if waits == "soak" else True})
    play(ctx, {"10.9.0.1": OK})

    revoke_job(ctx, RevokeJob(job_id=1))

    assert job_of(ctx) is JobStatus.PART_FAILED
    assert (task_of(ctx).next_wave_at, task_of(ctx).waits_for_person) == (None, False)
    with pytest.raises(WrongState, match="does not wait for a person"):
        confirm_task(ctx, 1, "bob")
    roll_back_task(ctx, 1, "bob")
    assert open_hosts(ctx) >= {1}


def test_a_canary_cancelled_before_it_began_stops_the_rollout(ctx: Context) -> None:
    """Nothing is proved by a canary nobody let begin."""
    roll_out(ctx)

    cancel_subtask(ctx, 1, 1, "bob")
    wake_all(ctx)

    assert (job_of(ctx), open_hosts(ctx)) == (JobStatus.FAILED, set())
    parts = parts_of(ctx, 1)
    assert [part.cause for part in parts] == [Cause.CANCELLED, *[Cause.NOT_STARTED] * 4]
    assert all("canary" in part.reason for part in parts[1:])


def test_hosts_taken_out_of_the_open_wave_let_the_rest_go_on_at_once(ctx: Context) -> None:
    roll_out(ctx, canary=0)
    with reading(ctx.engine) as session:
        names = tuple(f"host|instance|host|{number}" for number in (1, 2, 3))
        assert session.scalars(select(Run.id)).all() == [1]

    revoke_job(ctx, RevokeJob(job_id=1, instance_ids=names))

    assert open_hosts(ctx) == {4, 5}
    assert [part.status for part in parts_of(ctx, 1)[3:]] == [Status.PENDING] * 2
