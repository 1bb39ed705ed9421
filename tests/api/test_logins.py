"""Logins as callers send them: which are refused, and what becomes of the others."""

from typing import Any

import pytest
from sqlalchemy import func, select

from app.access.credentials import LoginChoice, usable_logins
from app.jobs.context import Context
from app.models.base import now, reading
from app.models.fleet import Host
from tests.api.conftest import Call, a_call, a_row
from tests.api.given import play

REFUSED = ["auth", "wrong password"]
FIRST = "host|instance|host|1"

# --- Accounts no login can have


@pytest.mark.parametrize("account", ['ro"ot', "DOMAIN\\admin", "ro\not", "ro\x7fot"])
def test_an_account_that_cannot_be_carried_is_refused_by_name(
    ctx: Context, call: Call, account: str
) -> None:
    said = call("/api/job/install/", a_call(a_row(1), a_row(2, account=account), a_row(3)))

    assert said["code"] == 3800001
    (problem,) = said["errors"]["hosts"]["1"]["account"]
    assert problem.endswith(' cannot be an account; it takes printable characters except " and \\')
    assert _hosts(ctx) == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/host/update_single/", {"bk_host_id": 1, "account": 'ro"ot'}),
        ("/api/job/1/retry/", {"hosts": [a_row(bk_host_id=1, account='ro"ot')]}),
        (
            "/backend/api/subscription/retry/",
            {"subscription_id": 1, "hosts": [a_row(bk_host_id=1, account='ro"ot')]},
        ),
    ],
)
def test_such_an_account_is_refused_wherever_one_is_sent(
    ctx: Context, call: Call, path: str, body: dict[str, Any]
) -> None:
    installed(ctx, call, REFUSED)

    said = call(path, body)

    assert said["code"] == 3800001
    assert "account" in said["message"]


def test_an_empty_account_was_left_out(call: Call) -> None:
    said = call("/api/job/install/", a_call(a_row(1, account="")))

    assert said["errors"] == {"hosts": {"0": {"account": ["is missing"]}}}


def installed(ctx: Context, call: Call, outcome: Any = "ok", **more: Any) -> None:
    """Host 1, after a job that played so on it."""
    assert call("/api/job/install/", a_call(a_row(0, **more)))["result"]
    play(ctx, {"10.1.0.1": outcome})


def _hosts(ctx: Context) -> int:
    with reading(ctx.engine) as session:
        return session.scalar(select(func.count()).select_from(Host)) or 0


# --- A login that comes with a retry


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/job/1/retry/", {}), ("/backend/api/subscription/retry/", {"subscription_id": 1})],
)
def test_the_login_of_a_retry_is_from_then_on_the_hosts(
    ctx: Context, call: Call, path: str, body: dict[str, Any]
) -> None:
    installed(ctx, call, REFUSED)

    by_key = {"auth_type": "KEY", "account": "ops", "port": 2222, "key": "KEY"}
    assert call(path, {**body, "hosts": [{"bk_host_id": 1, **by_key}]})["result"]

    assert _login(call) == {"auth_type": "KEY", "account": "ops", "port": 2222}
    play(ctx, {"10.1.0.1": "ok"})
    again = a_row(0, auth_type="KEY", account="ops", port=2222, password="")
    assert call("/api/job/install/", a_call(again, job_type="REINSTALL_AGENT"))["result"]


def _login(call: Call) -> dict[str, Any]:
    """What is shown of how to log in on host 1."""
    (row,) = call("/api/host/search/", {"bk_host_id": [1]})["data"]["list"]
    return {name: row["identity_info"][name] for name in ("auth_type", "account", "port")}


# --- A host that is edited


@pytest.mark.parametrize("empty", [{"port": ""}, {"account": ""}, {"auth_type": ""}])
def test_what_is_left_empty_stays_when_a_new_password_comes(
    ctx: Context, call: Call, empty: dict[str, Any]
) -> None:
    installed(ctx, call, account="ops", port=2222)

    assert call("/api/host/update_single/", {"bk_host_id": 1, **empty, "password": "new"})["result"]

    assert _login(call) == {"auth_type": "PASSWORD", "account": "ops", "port": 2222}
    used = _used(ctx)
    assert (used.account, used.port, used.password) == ("ops", 2222, "new")


@pytest.mark.parametrize(
    ("sent", "missing"),
    [
        ({"auth_type": "KEY", "password": "new"}, "key"),
        ({"auth_type": "KEY"}, "key"),
        ({"auth_type": "PASSWORD", "key": "KEY"}, "password"),
    ],
)
def test_half_a_login_is_refused_by_what_it_lacks_and_nothing_changes(
    ctx: Context, call: Call, sent: dict[str, Any], missing: str
) -> None:
    installed(ctx, call)

    said = call("/api/host/update_single/", {"bk_host_id": 1, "port": 2222, **sent})

    assert said["code"] == 3800001
    assert said["errors"] == {missing: ["is missing"]}
    assert _login(call) == {"auth_type": "PASSWORD", "account": "root", "port": 22}
    assert _used(ctx).password == "correct horse"


def test_a_key_in_place_of_a_password_needs_no_more_than_itself(ctx: Context, call: Call) -> None:
    installed(ctx, call)

    assert call("/api/host/update_single/", {"bk_host_id": 1, "key": "KEY"})["result"]

    assert _login(call)["auth_type"] == "KEY"
    assert _used(ctx).private_key == "KEY"


def _used(ctx: Context) -> LoginChoice:
    """How host 1 would be entered now."""
    with reading(ctx.engine) as session:
        return usable_logins(session, ctx.vault, [1], now())[1]


# --- Another account, and no secret


@pytest.mark.parametrize(
    "change",
    [
        ("/api/host/update_single/", {"bk_host_id": 1, "account": "ops"}),
        (
            "/api/job/install/",
            a_call(a_row(0, account="ops", password=""), job_type="REINSTALL_AGENT"),
        ),
    ],
)
def test_the_secret_that_is_known_goes_on_for_another_account(
    ctx: Context, call: Call, change: tuple[str, dict[str, Any]]
) -> None:
    installed(ctx, call, retention=7)

    assert call(*change)["result"]

    assert _login(call) == {"auth_type": "PASSWORD", "account": "ops", "port": 22}
    used = _used(ctx)
    assert (used.account, used.port, used.password) == ("ops", 22, "correct horse")


def test_a_row_that_says_what_is_known_stores_nothing(ctx: Context, call: Call) -> None:
    installed(ctx, call)
    before = _used(ctx)

    again = a_call(a_row(0, password=""), job_type="REINSTALL_AGENT")
    assert call("/api/job/install/", again)["result"]
    assert call("/api/host/update_single/", {"bk_host_id": 1, "port": 22})["result"]

    assert _used(ctx) == before


# --- Settings beside the login


def test_a_setting_that_is_left_empty_has_its_default(ctx: Context, call: Call) -> None:
    installed(ctx, call, peer_exchange_switch_for_agent="", bt_speed_limit="")

    (row,) = call("/api/host/search/", {"bk_host_id": [1]})["data"]["list"]

    assert row["extra_data"]["peer_exchange_switch_for_agent"] == 0
