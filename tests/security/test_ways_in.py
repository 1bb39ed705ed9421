"""A caller enters machines of its own businesses only, and a login only opens what it was for."""

from typing import Any

import pytest
from sqlalchemy import select, update

from app.access.credentials import LoginChoice, StandingGrant, usable_logins
from app.jobs.claim import claim_run
from app.jobs.context import Context
from app.jobs.logins import standing_logins
from app.jobs.outcome import note_standing_access
from app.jobs.prepare import prepare_run
from app.models.base import now, reading, transaction
from app.models.fleet import Host
from app.models.work import Run
from tests.api.conftest import Call, a_call, a_row
from tests.api.given import play

MINE = {"bk_host_id": 1}
STRANGERS = "10.1.0.2"


def ours_and_theirs(ctx: Context, call: Call, **more: Any) -> None:
    """Host 1 at 10.1.0.1 is business 2's, host 2 at 10.1.0.2 business 3's; both have our key."""
    rows = [a_row(0, retention=0, **more), a_row(1, bk_biz_id=3, retention=0)]
    for row in rows:
        assert call("/api/job/install/", a_call(row))["result"]
        play(ctx, {row["inner_ip"]: "ok"})
    grant(ctx)


def grant(ctx: Context) -> None:
    """Our key was proved on every host, on the way it has now."""
    with transaction(ctx.engine) as session:
        for host in session.scalars(select(Host)):
            note_standing_access(host, StandingGrant(account="root", way=host.way), 1)


def standing(ctx: Context) -> set[int]:
    """The hosts that our own key would be used on now."""
    with reading(ctx.engine) as session:
        return set(standing_logins(ctx, session.scalars(select(Host))))


def used(ctx: Context, host_id: int = 1) -> LoginChoice | None:
    """How that host would be entered now, our own key aside."""
    with reading(ctx.engine) as session:
        return usable_logins(session, ctx.vault, [host_id], now()).get(host_id)


@pytest.mark.parametrize("name", ["login_ip", "inner_ip", "outer_ip"])
def test_a_host_cannot_be_moved_to_an_address_of_another_business(
    ctx: Context, call: Call, name: str
) -> None:
    ours_and_theirs(ctx, call)

    said = call("/api/host/update_single/", {**MINE, name: STRANGERS})

    assert not said["result"]
    with reading(ctx.engine) as session:
        assert session.get_one(Host, 1).login_address == "10.1.0.1"


@pytest.mark.parametrize("spelled", [STRANGERS, f"::ffff:{STRANGERS}"])
@pytest.mark.parametrize("job_type", ["INSTALL_AGENT", "REINSTALL_AGENT", "IMPORT_AGENT"])
def test_a_job_cannot_enter_an_address_of_another_business(
    ctx: Context, call: Call, job_type: str, spelled: str
) -> None:
    ours_and_theirs(ctx, call)

    said = call("/api/job/install/", a_call(a_row(0, login_ip=spelled), job_type=job_type))

    assert said["code"] in (3801018, 3800001)
    with reading(ctx.engine) as session:
        assert session.get_one(Host, 1).login_ip == ""


def test_an_address_somebody_elses_host_is_entered_at_is_theirs_too(
    ctx: Context, call: Call
) -> None:
    ours_and_theirs(ctx, call)
    assert call("/api/host/update_single/", {"bk_host_id": 2, "login_ip": "10.9.9.9"})["result"]

    fresh = a_row(5, inner_ip="10.9.9.9")
    said = call("/api/job/install/", a_call(fresh))

    assert said["code"] == 3801018
    assert "belongs to another business" in said["data"]["ip_filter"][0]["msg"]


@pytest.mark.parametrize(
    "change", [{"login_ip": "10.9.9.9"}, {"port": 2222}, {"inner_ip": "10.9.9.9"}]
)
def test_standing_access_and_logins_stay_where_they_were_given(
    ctx: Context, call: Call, change: dict[str, Any]
) -> None:
    ours_and_theirs(ctx, call)
    install = a_call(a_row(0, retention=7))
    assert call("/api/job/install/", install)["result"]
    play(ctx, {"10.1.0.1": "ok"})
    assert standing(ctx) == {1, 2}
    assert used(ctx)

    assert call("/api/host/update_single/", {**MINE, **change})["result"]

    assert standing(ctx) == {2}
    assert used(ctx) is None
    said = call("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1]})
    assert not said["result"]
    back = {"login_ip": "", "port": 22, "inner_ip": "10.1.0.1"}
    assert call("/api/host/update_single/", {**MINE, **back})["result"]
    assert standing(ctx) == {1, 2}  # proved there, and nowhere else


def test_what_is_moved_while_it_runs_has_its_key_where_the_run_was(
    ctx: Context, call: Call
) -> None:
    """Settling reads the way the run took, not the row's, which somebody may have changed since."""
    assert call("/api/job/install/", a_call(a_row(0)))["result"]
    with reading(ctx.engine) as session:
        run_id = session.scalars(select(Run.id)).one()
    claim = claim_run(ctx, run_id, "a worker")
    assert claim
    prepared = prepare_run(ctx, claim)
    with transaction(ctx.engine) as session:
        session.execute(update(Host).where(Host.id == 1).values(login_ip="10.9.9.9"))

    assert prepared.standing[1].way.split()[-2:] == ["10.1.0.1", "22"]


def test_a_login_that_waits_is_not_used_at_another_address(ctx: Context, call: Call) -> None:
    assert call("/api/job/install/", a_call(a_row(0)))["result"]
    with transaction(ctx.engine) as session:
        session.execute(update(Host).where(Host.id == 1).values(login_ip="10.9.9.9"))
        run_id = session.scalars(select(Run.id)).one()
    claim = claim_run(ctx, run_id, "a worker")
    assert claim

    prepared = prepare_run(ctx, claim)

    assert prepared.play is None
    assert prepared.without_login.keys() == {1}


@pytest.mark.parametrize("job_type", ["REINSTALL_AGENT", "UPGRADE_AGENT", "INSTALL_AGENT"])
def test_a_known_host_named_with_another_address_is_left_out_and_not_changed(
    ctx: Context, call: Call, job_type: str
) -> None:
    ours_and_theirs(ctx, call)

    row = a_row(0, bk_host_id=1, inner_ip="10.9.9.9")
    said = call("/api/job/install/", a_call(row, job_type=job_type))

    assert said["code"] == 3801018
    assert said["data"]["ip_filter"][0]["msg"] == "host 1 is 10.1.0.1, not 10.9.9.9"
    with reading(ctx.engine) as session:
        assert session.get_one(Host, 1).inner_ip == "10.1.0.1"
