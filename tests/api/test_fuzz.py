"""Whatever is sent to the node manager's language, it answers in its own words and never breaks."""

import re
from contextlib import closing
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.jobs.context import Context
from app.jobs.report import manual_ticket
from tests.api.conftest import Call, a_call, a_row, check_envelope, header
from tests.api.fuzz import Photograph, fuzz, fuzz_badly, operations_of, published
from tests.api.given import arrange

STREAM = ("get", "/api/job/{job_id}/events/")
# requests are made up of the constants of our code too: with each change of it others are welcome
MORE_AND_MORE = (20, 100, 500)
# outside the envelope: the stream, a program, and what a host's report is answered with
BARE = {STREAM[1], "/backend/tools/install/", "/backend/report_log/"}


def ours(path: str) -> bool:
    return re.match(r"/(api/(?!v\d/tasks)|backend/|core/)", path) is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_that_is_sent_breaks_it(ctx: Context, client: FlaskClient, call: Call) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": ["auth", "wrong password"]}})
    meant = what_is_there(call)
    operations = {key(found): found for found in operations_of(client.application, ours)}
    # first, while every job is over: another job's stream would not end
    welcomed = {ask(operations[STREAM], meant)}

    waiting = a_host_that_waits(ctx, call)
    meant |= {name: waiting[name] for name in ("token", "X-Report-Token")}
    with closing(Photograph(ctx.engine)) as before:
        for operation in operations.values():
            if key(operation) != STREAM:
                stops = operation.path.endswith("/revoke/")
                welcomed.add(ask(operation, meant | waiting if stops else meant))
                before.restore()

    assert operations.keys() == published(client.get("/openapi.json").get_json(), ours)
    assert len(operations) > 50
    titles = {operation.definition.raw["summary"] for operation in operations.values()}
    assert welcomed - {None} == titles


def key(operation: Any) -> tuple[str, str]:
    return operation.method, operation.path


def ask(operation: Any, meant: dict[str, Any]) -> str | None:
    """Send it many requests, look at each answer; its title, if one of them was not refused."""
    heard: list[Any] = []
    for many in MORE_AND_MORE:
        fuzz(operation, header(), meant, heard.append, many)
        if any(map(is_welcome, heard)):
            break
    fuzz_badly(operation, header(), heard.append, many=5)
    for response in heard:
        check(operation.path, response)
    return operation.definition.raw["summary"] if any(map(is_welcome, heard)) else None


def what_is_there(call: Call) -> dict[str, Any]:
    """The failed host of the job, by the names requests have for it and for others."""
    row = call("/api/job/1/details/")["data"]["list"][0]
    instance, host = row["instance_id"], row["bk_host_id"]
    return {
        **dict.fromkeys(("job_id", "subscription_id", "task_id", "task_id_list", "ap_id"), 1),
        **dict.fromkeys(("instance_id", "instance_id_list"), instance),
        "bk_host_id": host,
        "hosts": a_row(
            bk_host_id=host,
            is_manual=False,
            outer_ip="",
            inner_ip="10.9.0.2",
            install_channel_id=-1,
        ),
        "install_channel_id": -1,
        **dict.fromkeys(("outer_ip", "login_ip", "data_ip"), "10.9.9.9"),
        "auth_type": "PASSWORD",
        "start_time": "2024-01-31 12:00:00",
    }


def a_host_that_waits(ctx: Context, call: Call) -> dict[str, Any]:
    """One that is to be installed by hand, in a job that has not ended; and its token."""
    job = call("/api/job/install/", a_call(a_row(9, is_manual=True)))["data"]["job_id"]
    (row,) = call(f"/api/job/{job}/details/")["data"]["list"]
    ticket = manual_ticket(ctx, job, row["bk_host_id"])
    assert ticket
    return {
        **dict.fromkeys(("job_id", "subscription_id"), job),
        **dict.fromkeys(("token", "X-Report-Token"), ticket.token),
        "instance_id_list": row["instance_id"],
    }


def check(path: str, response: Any) -> None:
    assert response.status_code < 500, response.text
    assert b"Traceback" not in response.content
    if path not in BARE:
        check_envelope(response.json())


def is_welcome(response: Any) -> bool:
    """Whether this was done, and not refused."""
    return response.status_code == 200 and b'"result":false' not in response.content


def test_nothing_is_left_out_of_the_description(client: FlaskClient) -> None:
    """A request has all it needs there, and every answer its shape."""
    document = client.get("/openapi.json").get_json()
    for method, path in published(document, ours) - {STREAM}:
        operation = document["paths"][path][method]
        assert "content" in operation["responses"]["200"], path
        if method == "post" and "healthz" not in path:
            assert operation["requestBody"]["content"]["application/json"]["schema"], path
