"""One keeper of many does the duties; when it is gone, another does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.access.redact import Redactor
from app.jobs.context import Context
from app.jobs.progress import write_events
from app.keeper import CHORES, LEASE, Keeper
from app.models.base import now, reading, transaction
from app.models.work import Duty, Lease, Part, Run
from tests.jobs.conftest import a_host, claim_next, started, worked
from tests.jobs.test_submit import Install

PATIENCE = 6.0  # seconds a keeper waits for a rival's lease to move: three looks of two seconds


@dataclass
class Clock:
    """A keeper's own clock: nobody compares it with another's."""

    seconds: float

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock(seconds=1000.0)


def lease(ctx: Context) -> tuple[str, int]:
    """Who keeps, and how far it has counted."""
    with reading(ctx.engine) as session:
        row = session.get_one(Lease, LEASE)
        return row.owner, row.beat


def make_due(ctx: Context) -> None:
    """Every duty is due now."""
    with transaction(ctx.engine) as session:
        session.execute(update(Duty).values(due_at=now() - timedelta(seconds=1)))


def due(ctx: Context) -> set[str]:
    """The duties nobody has taken since they were due."""
    with reading(ctx.engine) as session:
        later = set(session.scalars(select(Duty.name).where(Duty.due_at > now())))
    return {chore.name for chore in CHORES} - later


def test_of_two_keepers_only_the_elected_one_does_duties(ctx: Context, clock: Clock) -> None:
    first, second = Keeper(ctx), Keeper(ctx, clock)
    first.turn()
    assert (lease(ctx), due(ctx)) == ((first.name, 1), set())
    make_due(ctx)

    second.turn()
    assert due(ctx) == {chore.name for chore in CHORES}

    first.turn()
    assert (lease(ctx), due(ctx)) == ((first.name, 2), set())


def test_a_lease_that_moves_is_never_taken_however_long_it_goes_on(
    ctx: Context, clock: Clock
) -> None:
    first, second = Keeper(ctx), Keeper(ctx, clock)
    for beat in range(1, 6):
        first.turn()
        second.turn()
        assert lease(ctx) == (first.name, beat)
        clock.seconds += PATIENCE


def test_when_the_elected_one_stops_the_other_takes_over(ctx: Context, clock: Clock) -> None:
    first, second = Keeper(ctx), Keeper(ctx, clock)
    first.turn()
    second.turn()
    make_due(ctx)

    clock.seconds += PATIENCE - 0.1
    second.turn()
    assert lease(ctx) == (first.name, 1), "too early to say that it is gone"

    clock.seconds += 0.1
    second.turn()
    assert (lease(ctx), due(ctx)) == ((second.name, 2), set())

    make_due(ctx)
    first.turn()
    assert (lease(ctx), due(ctx)) == (
        (second.name, 2),
        {chore.name for chore in CHORES},
    ), "one that comes back finds that it is no longer the one"


def test_a_duty_put_off_by_a_clock_that_was_ahead_is_due(ctx: Context) -> None:
    keeper = Keeper(ctx)
    keeper.turn()
    with transaction(ctx.engine) as session:
        session.execute(update(Duty).values(due_at=now() + timedelta(hours=2)))

    keeper.turn()

    with reading(ctx.engine) as session:
        ahead = session.scalars(select(Duty.due_at)).all()
    assert max(ahead) < now() + timedelta(hours=1, minutes=1)


def test_a_run_that_cannot_be_settled_holds_up_no_other_and_no_duty(
    ctx: Context, clock: Clock, install: Install
) -> None:
    install([a_host(0)])
    install([a_host(1)])
    claims = [claim_next(ctx), claim_next(ctx)]
    with transaction(ctx.engine) as session:
        write_events(session, claims[0], Redactor([]), [started(1), worked(1)])
        session.execute(update(Part).where(Part.id == 1).values(job_type="OF_ANOTHER_VERSION"))
    keeper = Keeper(ctx, clock)
    keeper.turn()
    make_due(ctx)
    clock.seconds += ctx.settings.lease_seconds

    keeper.turn()

    assert [outcome(ctx, claim.run_id) for claim in claims] == ["", "lost"]
    assert due(ctx) == set()


def test_of_several_that_see_it_gone_one_wins(ctx: Context, clock: Clock) -> None:
    Keeper(ctx).turn()
    heirs = [Keeper(ctx, clock) for _ in range(4)]
    for heir in heirs:
        heir.turn()
    clock.seconds += PATIENCE

    with ThreadPoolExecutor(len(heirs)) as threads:
        list(threads.map(Keeper.turn, heirs))

    owner, beat = lease(ctx)
    assert owner in {heir.name for heir in heirs}
    assert beat == 2


def test_the_successor_gives_a_run_the_whole_time_of_its_own_clock(
    ctx: Context, clock: Clock, install: Install
) -> None:
    """A run is lost when its lease has stood still under one keeper's eyes, not between two."""
    install(1)
    run = claim_next(ctx).run_id
    first, second = Keeper(ctx), Keeper(ctx, clock)
    first.turn()
    second.turn()
    clock.seconds += ctx.settings.lease_seconds
    second.turn()
    assert lease(ctx)[0] == second.name
    assert outcome(ctx, run) == ""

    clock.seconds += ctx.settings.lease_seconds
    second.turn()

    assert outcome(ctx, run) == "lost"


def outcome(ctx: Context, run_id: int) -> str:
    with reading(ctx.engine) as session:
        return session.get_one(Run, run_id).outcome


# --- Its thread


class Watched(Keeper):
    """A keeper whose turns can be awaited."""

    looked = threading.Event()

    def turn(self) -> None:
        super().turn()
        self.looked.set()


def test_it_keeps_in_a_thread_of_its_own_until_it_is_stopped(ctx: Context) -> None:
    keeper = Watched(replace(ctx, settings=replace(ctx.settings, keeper_seconds=0.01)))
    others = set(threading.enumerate())

    keeper.start()
    assert keeper.looked.wait(60)
    assert {thread.name for thread in set(threading.enumerate()) - others} == {"keeper"}
    keeper.stop()

    assert set(threading.enumerate()) <= others
    assert lease(ctx)[0] == keeper.name
