"""Other sites, proxies and strangers: what a browser or a neighbour may make us do."""

import base64

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from app.access.signature import is_recent
from app.api.events import Places
from app.factory import create_app
from app.jobs.context import Context
from app.models.access import Audit
from app.models.base import now, reading
from tests.api.ocp import PASSWORD

RETRY = "/api/v2/tasks/instances/1/retry"


def basic(name: str = "olga") -> dict[str, str]:
    said = base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {said}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_form_of_another_site_changes_nothing_with_a_remembered_password(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    form = {"content_type": "application/x-www-form-urlencoded", "data": "a=b"}

    answer = client.post(RETRY, headers=basic() | headers, **form)

    assert answer.status_code == 403
    assert "another site" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "cross-site", "X-Requested-With": "a script we let in"},
    ],
)
def test_programs_and_our_own_pages_may(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post(RETRY, headers=basic() | headers).status_code == 404  # there is no task 1


def test_a_browser_is_not_invited_to_remember_a_password(client: FlaskClient) -> None:
    shown = client.get("/api/v2/tasks/instances", headers={"Sec-Fetch-Mode": "navigate"})
    asked = client.get("/api/v2/tasks/instances")

    assert "WWW-Authenticate" not in shown.headers
    assert "WWW-Authenticate" in asked.headers


@pytest.mark.parametrize(
    ("neighbour", "source"), [("10.0.0.5", "203.0.113.9"), ("10.0.1.5", "10.0.1.5")]
)
def test_only_a_trusted_proxy_says_who_asks(ctx: Context, neighbour: str, source: str) -> None:
    settings = ctx.settings.__class__(**{**vars(ctx.settings), "trusted_proxies": "10.0.0.0/24"})
    client = create_app(ctx.__class__(ctx.engine, settings, ctx.vault, ctx.queue)).test_client()
    wrong = base64.b64encode(b"olga:not the password").decode()

    client.post(
        RETRY,
        headers={"Authorization": f"Basic {wrong}", "X-Forwarded-For": "203.0.113.9"},
        environ_base={"REMOTE_ADDR": neighbour},
    )

    with reading(ctx.engine) as session:
        assert session.scalars(select(Audit.source_ip)).all() == [source]


def test_strangers_leave_no_rows(ctx: Context, client: FlaskClient) -> None:
    for path in ("/api/job/install/", "/api/host/remove_host/", RETRY):
        client.post(path, json={})

    with reading(ctx.engine) as session:
        assert session.scalar(select(func.count()).select_from(Audit)) == 0


@pytest.mark.parametrize(
    "date",
    [
        "Sat, 01 Jan 0001 00:00:00 +2359",
        "Sat, 31 Dec 9999 23:59:59 -2359",
        "Sat, 01 Jan 2026 00:00:00 +99999999999999",
        "Sat, 01 Jan 2026 99:99:99 GMT",
        "yesterday",
        "",
    ],
)
def test_an_absurd_date_is_not_recent(date: str) -> None:
    assert not is_recent(date, now())


def test_one_caller_cannot_hold_all_event_streams() -> None:
    places = Places(4)

    assert [places.take("greedy") for _ in range(3)] == [True, True, False]
    assert [places.take("other") for _ in range(3)] == [True, True, False]
    places.give_back("greedy")
    assert places.take("third")
