"""Who calls the OCP language: passwords, signatures, and the console's session."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from flask.testing import FlaskClient

from app.access.access_keys import NewAccessKey, create_access_key
from app.access.caller import change_rights
from app.access.signature import SignedRequest, is_signed, sign, string_to_sign
from app.access.users import find_user
from app.access.web_sessions import OpenedSession, open_session
from app.api.callers import COOKIE, _signed_request
from app.factory import create_app
from app.jobs.context import Context
from app.models.base import now, transaction
from tests.api.conftest import header
from tests.api.ocp import TASKS, asker, basic, read, submit_stages

# --- The examples of OCP's own documentation: what a client of theirs sends is what we accept

AK, SK = "cqammmxBpfGjFlto", "2fc0c299cc94c6be266f2ceece765d4d"
WITH_BODY = SignedRequest(
    method="POST",
    path="/api/v2/compute/idcs",
    host="ocp.alibaba.net:8080",
    date="Tue, 17 Jan 2023 09:13:57 GMT",
    content_type="application/json",
    body=b'{"name":"test01","description":"test","regionId":1}',
    headers={"x-ocp-data": "A,1"},
)
WITH_QUERY = SignedRequest(
    method="GET",
    path="/api/v2/compute/idcs",
    host="ocp.alibaba.net:8080",
    date="Tue, 17 Jan 2023 04:14:02 GMT",
    content_type="application/json;charset=utf-8",
    query=[("size", "100")],
)
NEWER_SK = "d75332c5eed8d440a84a35ac6248d397"
NEWER = SignedRequest(
    method="GET",
    path="/api/v2/monitor/top",
    host="127.0.0.1:8080",
    date="Mon, 15 Apr 2024 09:25:02 GMT",
    content_type="application/json",
    headers={"x-ocp-origin": "for-test"},
    query=[
        ("metrics", "host_disk_total"),
        ("labels", "svr_ip:127.0.0.1"),
        ("groupBy", "app,svr_ip,device,mount_point"),
        ("startTime", "2024-04-15T14:29:55+08:00"),
        ("endTime", "2024-04-15T14:30:55+08:00"),
        ("maxPoints", "360"),
    ],
)


@pytest.mark.parametrize(
    ("request_", "secret", "signature"),
    [
        (WITH_BODY, SK, "XN8P+O+v3vUabB16ZCooq5wMJoY="),
        (WITH_QUERY, SK, "TsQD6HDOuZuJ409m0wdnZPmijlc="),
        (NEWER, NEWER_SK, "To11kg1EsB/dPWyDnnpuUzIUoQk="),
    ],
    ids=["with a body", "with a query", "newer page"],
)
def test_the_worked_examples(request_: SignedRequest, secret: str, signature: str) -> None:
    assert is_signed(request_, secret, signature)
    assert not is_signed(request_, secret[::-1], signature)


def test_the_digest_of_the_worked_example() -> None:
    assert string_to_sign(WITH_BODY).split("\n") == [
        "POST",
        "186974DB33A090A16D3E2CA35F547B56",
        "application/json",
        "Tue, 17 Jan 2023 09:13:57 GMT",
        "ocp.alibaba.net:8080",
        "x-ocp-data:A,1",
        "/api/v2/compute/idcs",
    ]


@pytest.mark.parametrize(
    ("asked", "signature"),
    [
        (WITH_BODY, "XN8P+O+v3vUabB16ZCooq5wMJoY="),
        (WITH_QUERY, "TsQD6HDOuZuJ409m0wdnZPmijlc="),
    ],
)
def test_a_request_on_the_wire_is_read_as_the_examples_say(
    web: FlaskClient, asked: SignedRequest, signature: str
) -> None:
    with web.application.test_request_context(
        asked.path,
        method=asked.method,
        base_url=f"http://{asked.host}",
        query_string="&".join(f"{k}={v}" for k, v in asked.query),
        headers={**dict(asked.headers), "Date": asked.date, "Content-Type": asked.content_type},
        data=asked.body or None,
    ):
        assert is_signed(_signed_request(), SK, signature)


# --- On the wire


@pytest.fixture
def web(ctx: Context) -> FlaskClient:
    return create_app(ctx).test_client()


@pytest.fixture
def pair(ctx: Context, web: FlaskClient) -> NewAccessKey:
    with transaction(ctx.engine) as session:
        return create_access_key(session, ctx.vault, "olga")


def signed(
    pair: NewAccessKey,
    method: str,
    path: str,
    query: str = "",
    *,
    at: datetime | None = None,
    body: bytes = b"",
    date_header: str = "Date",
    **headers: str,
) -> dict[str, str]:
    """The headers of a signed request, as a client makes them."""
    date = format_datetime(at or datetime.now(UTC), usegmt=True)
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | {date_header: date}
    asked = SignedRequest(
        method=method,
        path=path,
        host="localhost",
        date=date,
        content_type=sent.get("Content-Type", ""),
        body=body,
        headers=sent,
        query=[tuple(item.split("=")) for item in query.split("&") if item],  # type: ignore[misc]
    )
    signature = sign(pair.secret_key, string_to_sign(asked))
    return sent | {"Authorization": f"OCP-ACCESS-KEY-HMACSHA1 {pair.access_key}:{signature}"}


def test_a_signed_request_is_its_users(ctx: Context, web: FlaskClient, pair: NewAccessKey) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")

    listed = web.get(
        f"{TASKS}?size=5&status=RUNNING",
        headers=signed(pair, "GET", TASKS, "size=5&status=RUNNING", x_ocp_origin="test"),
    )
    body = b'{"ignored": true}'
    path = f"{TASKS}/1/subtasks/1/cancel"
    content = {"Content_Type": "application/json"}
    done = web.post(path, data=body, headers=signed(pair, "POST", path, body=body, **content))

    assert read(listed)["data"]["page"]["totalElements"] == 1
    read(done)


def test_a_browser_may_send_its_date_beside(web: FlaskClient, pair: NewAccessKey) -> None:
    headers = signed(pair, "GET", TASKS, date_header="x-ocp-date")

    read(web.get(TASKS, headers=headers))


@pytest.mark.parametrize(
    "date",
    [
        "yesterday",
        "Sun, 01 Mar 2026 12:00:00 +999999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 -2300",
    ],
)
def test_a_date_that_names_no_moment_is_a_wrong_request(
    web: FlaskClient, pair: NewAccessKey, date: str
) -> None:
    said = web.get(TASKS, headers={**signed(pair, "GET", TASKS), "Date": date})

    assert said.status_code == 400


def test_a_signature_fits_the_address_clients_know_though_a_proxy_rewrote_host(
    ctx: Context, pair: NewAccessKey
) -> None:
    settings = replace(ctx.settings, site_url="http://localhost")
    web = create_app(replace(ctx, settings=settings)).test_client()
    headers = signed(pair, "GET", TASKS)

    read(web.get(TASKS, headers=headers, base_url="http://10.0.0.1:8080"))


def test_a_signature_refused_for_its_host_names_host_and_setting(
    web: FlaskClient, pair: NewAccessKey
) -> None:
    said = web.get(TASKS, headers=signed(pair, "GET", TASKS), base_url="http://10.0.0.1:8080")

    assert said.status_code == 401
    assert "10.0.0.1:8080" in said.text
    assert "HOSTLER_SITE_URL" in said.text


@pytest.mark.parametrize(
    "spoil",
    [
        {"Date": "Sun, 01 Mar 2020 12:00:00 GMT"},
        {"x-ocp-origin": "added"},
        {"Authorization": "OCP-ACCESS-KEY-HMACSHA1 nobody:abc="},
        {"Authorization": "OCP-ACCESS-KEY-HMACSHA1 nocolon"},
        {"Authorization": "OCP-ACCESS-KEY-HMACSHA1 "},
        {"Authorization": "Bearer abc"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic"},
        {"Authorization": "Basic b2xnYQ=="},
    ],
)
def test_a_spoilt_request_is_nobodys(
    web: FlaskClient, pair: NewAccessKey, spoil: Mapping[str, str]
) -> None:
    error = read(web.get(TASKS, headers=signed(pair, "GET", TASKS) | spoil), 401)["error"]

    assert error["code"] in ("IAM10000", "IAM10004")


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_stale_signature_is_refused(web: FlaskClient, pair: NewAccessKey, minutes: int) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)

    error = read(web.get(TASKS, headers=signed(pair, "GET", TASKS, at=at)), 401)["error"]

    assert "15 minutes" in error["message"]


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_clock_may_be_a_little_wrong(web: FlaskClient, pair: NewAccessKey, minutes: int) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)

    read(web.get(TASKS, headers=signed(pair, "GET", TASKS, at=at)))


def test_the_signed_body_is_the_sent_one(web: FlaskClient, pair: NewAccessKey) -> None:
    path = f"{TASKS}/1/retry"

    response = web.post(path, data=b"other", headers=signed(pair, "POST", path, body=b"this"))

    read(response, 401)


def test_encoded_addresses_are_signed_as_sent(web: FlaskClient, pair: NewAccessKey) -> None:
    path = f"{TASKS}/a%20b"

    error = read(web.get(path, headers=signed(pair, "GET", path)), 400)["error"]

    assert "'a b'" in error["message"]


# --- The console's session


@pytest.fixture
def opened(ctx: Context, web: FlaskClient) -> OpenedSession:
    with transaction(ctx.engine) as session:
        found = open_session(session, "olga", "127.0.0.1", now())
    web.set_cookie(COOKIE, found.token)
    return found


def test_a_session_reads_without_and_changes_with_its_csrf_value(
    ctx: Context, web: FlaskClient, opened: OpenedSession
) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    path = f"{TASKS}/1/subtasks/1/cancel"

    read(web.get(TASKS))
    assert read(web.post(path), 403)["error"]["code"] == "IAM11000"
    read(web.post(path, headers={"X-CSRF-Token": "made-up"}), 403)
    read(web.post(path, headers={"X-CSRF-Token": opened.csrf_token}))


def test_an_ended_session_is_nobodys_and_no_browser_asks_for_a_password(
    web: FlaskClient,
) -> None:
    web.set_cookie(COOKIE, "made-up")

    response = web.get(TASKS)

    read(response, 401)
    assert "WWW-Authenticate" not in response.headers


def test_without_credentials_the_answer_says_how(web: FlaskClient) -> None:
    response = web.get(TASKS)

    assert read(response, 401)["error"]["code"] == "IAM10000"
    assert response.headers["WWW-Authenticate"].startswith("Basic")


def test_programs_of_the_other_language_are_nobody_here(client: FlaskClient) -> None:
    assert client.get(TASKS, headers=header()).status_code == 401


def test_a_locked_account_says_for_how_long(web: FlaskClient) -> None:
    for _ in range(20):
        read(web.get(TASKS, headers=basic("vera", "wrong password")), 401)

    error = read(web.get(TASKS, headers=basic("vera")), 401)["error"]

    assert error["code"] == "IAM10006"
    assert "minutes" in error["message"]


def test_a_person_switched_off_is_nobody(ctx: Context, web: FlaskClient) -> None:
    ask = asker(web, "ada")
    ask("GET", "")
    with transaction(ctx.engine) as session:
        change_rights(find_user(session, "ada"), is_active=False)

    ask("GET", "", 401)
