"""The events of a job as they happen."""

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select

from app.access.web_sessions import open_session
from app.api import events
from app.api.callers import COOKIE
from app.factory import create_app
from app.jobs.context import Context
from app.models.base import now, reading, transaction
from app.models.work import EventRow, Job
from tests.api.conftest import SECRET, header
from tests.api.given import play
from tests.api.ocp import basic, submit_stages

PATH = "/api/job/1/events/"
HALF = {"10.9.0.1": "ok", "10.9.0.2": ["auth", "wrong password"]}


@pytest.fixture
def web(client: FlaskClient) -> FlaskClient:
    return client


@pytest.fixture
def finished(ctx: Context, web: FlaskClient) -> int:
    """Job 1 is over; the number of its last event."""
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)
    with reading(ctx.engine) as session:
        return session.get_one(Job, 1).last_seq


def heard(text: str) -> list[tuple[int | None, str, Any]]:
    """(id, event, data) of each message."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "event" in lines:
            number = int(lines["id"]) if "id" in lines else None
            found.append((number, lines["event"], json.loads(lines["data"])))
    return found


def listen(web: FlaskClient, **more: Any) -> list[tuple[int | None, str, Any]]:
    with web.get(PATH, **{"headers": basic("vera"), **more}) as response:
        assert response.status_code == 200, response.text
        assert response.mimetype == "text/event-stream"
        return heard(response.text)


def test_a_finished_job_tells_everything_and_ends(web: FlaskClient, finished: int) -> None:
    messages = listen(web)

    assert [number for number, *_ in messages[:-1]] == list(range(1, finished + 1))
    assert messages[-1][1:] == ("end", {"status": "part_failed", "last": finished})
    kinds = {kind for _, kind, _ in messages}
    assert {"part", "subtask", "task", "job"} <= kinds
    assert all(data["seq"] == number for number, _, data in messages[:-1])
    failed = [d for _, kind, d in messages if kind == "part" and d["data"]["status"] == "failed"]
    assert {d["data"]["reason"] for d in failed} == {"wrong password"}


@pytest.mark.parametrize("after", [1, 4])
def test_it_goes_on_where_a_reader_was(web: FlaskClient, finished: int, after: int) -> None:
    by_header = listen(web, headers=basic("vera") | {"Last-Event-ID": str(after)})
    by_query = listen(web, query_string={"after": after})

    assert by_header == by_query
    assert [number for number, *_ in by_header[:-1]] == list(range(after + 1, finished + 1))


def test_who_has_everything_of_a_finished_job_need_not_come_again(
    web: FlaskClient, finished: int
) -> None:
    headers = basic("vera") | {"Last-Event-ID": str(finished)}

    assert web.get(PATH, headers=headers).status_code == 204


def test_what_retention_took_is_a_gap(ctx: Context, web: FlaskClient, finished: int) -> None:
    with transaction(ctx.engine) as session:
        session.execute(delete(EventRow).where(EventRow.seq.in_([1, 2, 5, finished])))

    messages = listen(web)

    gaps = [(number, data) for number, kind, data in messages if kind == "gap"]
    assert gaps == [
        (2, {"missing": [1, 2]}),
        (5, {"missing": [5, 5]}),
        (finished, {"missing": [finished, finished]}),
    ]
    numbers = [n for n, *_ in messages[:-1]]
    assert numbers == [2, 3, 4, 5, *range(6, finished + 1)]


def test_when_all_is_gone_the_gap_says_so(ctx: Context, web: FlaskClient, finished: int) -> None:
    with transaction(ctx.engine) as session:
        session.execute(delete(EventRow))

    assert listen(web)[0] == (finished, "gap", {"missing": [1, finished]})


def test_events_come_while_the_job_runs(ctx: Context, web: FlaskClient) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    begun = threading.Event()
    messages: list[Any] = []

    def follow() -> None:
        client = web.application.test_client()
        with client.get(PATH, headers=basic("vera")) as response:
            stream: Iterator[bytes] = iter(response.response)  # type: ignore[arg-type]
            text = ""
            for chunk in stream:
                text += chunk.decode() if isinstance(chunk, bytes) else chunk
                begun.set()
            messages.extend(heard(text))

    reader = threading.Thread(target=follow)
    reader.start()
    assert begun.wait(60)
    play(ctx, HALF)
    reader.join(60)

    with reading(ctx.engine) as session:
        stored = session.scalar(select(func.count()).select_from(EventRow))
    assert [number for number, *_ in messages[:-1]] == list(range(1, (stored or 0) + 1))
    assert messages[-1][1] == "end"


def test_silence_is_filled_with_comments(
    ctx: Context, web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.0)
    submit_stages(ctx, 1, "INSTALL_AGENT")

    with web.get(PATH, headers=basic("vera")) as response:
        stream = iter(response.response)
        said = [next(stream) for _ in range(6)]

    assert any(b"still here" in (s if isinstance(s, bytes) else s.encode()) for s in said)


def test_places_are_limited_and_given_back(ctx: Context, web: FlaskClient) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    number = ctx.settings.api_threads // 2
    open_ones = [web.get(PATH, headers=basic("olga")) for _ in range(number // 2)]
    assert web.get(PATH, headers=basic("olga")).status_code == 503  # half is one caller's most
    open_ones += [web.get(PATH, headers=basic("vera")) for _ in range(number // 2)]
    assert {response.status_code for response in open_ones} == {200}

    full = web.get(PATH, headers=basic("vera"))
    assert full.status_code == 503
    assert int(full.headers["Retry-After"]) > 0
    open_ones.pop().close()  # not one word of it was read

    with web.get(PATH, headers=basic("vera")) as again:
        assert again.status_code == 200
    for response in open_ones:
        response.close()


@pytest.mark.parametrize("way", ["basic", "program", "program in the query", "session"])
def test_every_way_to_say_who_one_is(
    ctx: Context, web: FlaskClient, finished: int, way: str
) -> None:
    more: dict[str, Any] = {"headers": {}}
    if way == "basic":
        more = {"headers": basic("olga")}
    elif way == "program":
        more = {"headers": header("reader")}
    elif way == "program in the query":
        more["query_string"] = {"bk_app_code": "reader", "bk_app_secret": SECRET}
    else:
        with transaction(ctx.engine) as session:
            web.set_cookie(COOKIE, open_session(session, "vera", "127.0.0.1", now()).token)

    assert listen(web, **more)[-1][1] == "end"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PATH, {}, 401),
        (PATH, header("reader", "wrong"), 401),
        (PATH, basic("sam"), 403),
        (PATH, header("scoped"), 200),
        ("/api/job/99/events/", basic("vera"), 404),
        ("/api/job/x/events/", basic("vera"), 400),
        (PATH, basic("vera") | {"Last-Event-ID": "last"}, 400),
        (PATH, basic("ve\x00ra"), 401),
        (f"{PATH}?bk_app_code=a%00b&bk_app_secret=x", {}, 400),
        (PATH, basic("vera") | {"Last-Event-ID": "9" * 30}, 400),
    ],
)
def test_refusals_have_their_real_status(
    web: FlaskClient, finished: int, path: str, headers: dict[str, str], status: int
) -> None:
    with web.get(path, headers=headers) as response:
        assert response.status_code == status
        if status >= 400:
            assert response.get_json()["message"]


def test_the_short_address_is_the_same(ctx: Context, web: FlaskClient, finished: int) -> None:
    with web.get("/api/job/1/events", headers=basic("vera")) as response:
        assert response.status_code == 200


def test_another_application_has_its_own_places(ctx: Context, web: FlaskClient) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    number = ctx.settings.api_threads // 2
    taken = [web.get(PATH, headers=basic("vera")) for _ in range(number)]

    with create_app(ctx).test_client().get(PATH, headers=basic("vera")) as response:
        assert response.status_code == 200
    for one in taken:
        one.close()


def test_a_server_that_stops_ends_its_streams(
    ctx: Context, web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    submit_stages(ctx, 1, "INSTALL_AGENT")
    monkeypatch.setattr(events, "closing", threading.Event())
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        events.end_on_stop()
        with web.get(PATH, headers=basic("vera")) as response:
            stream = iter(response.response)
            next(stream)
            signal.raise_signal(signal.SIGTERM)
            assert list(stream) == []
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]
