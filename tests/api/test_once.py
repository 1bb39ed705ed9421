"""A POST with an Idempotency-Key can be sent again: it was done once, and answers the same."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from app.api.nodeman.routes import ENDPOINTS
from app.api.ocp.routes import endpoints as task_endpoints
from app.domain.rollout import Rollout
from app.jobs.context import Context
from app.models.access import Audit
from app.models.base import Base, reading
from app.models.work import IdempotentAnswer
from tests.api.conftest import Call, a_call, a_row, header
from tests.api.given import arrange, play
from tests.api.ocp import Ask, asker, submit_stages

KEY = {"Idempotency-Key": "k1"}
REFUSED = ["auth", "wrong password"]
WAITING = {"hosts": 2}
HALF = {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": REFUSED}}
SECOND = "host|instance|host|10.9.0.2-0-0"
SUBSCRIPTION = "/backend/api/subscription"
CHANGES: dict[str, tuple[Mapping[str, Any], str, dict[str, Any]]] = {
    "job/install": ({}, "/api/job/install/", a_call()),
    "job/operate": (HALF, "/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1]}),
    "job/retry": (HALF, "/api/job/1/retry/", {}),
    "job/revoke": (WAITING, "/api/job/1/revoke/", {}),
    "job/retry_node": (HALF, "/api/job/1/retry_node/", {"instance_id": SECOND}),
    "job/collect_log": (HALF, "/api/job/1/collect_log/", {"instance_id": SECOND}),
    "subscription/retry": (HALF, f"{SUBSCRIPTION}/retry/", {"subscription_id": 1}),
    "subscription/revoke": (WAITING, f"{SUBSCRIPTION}/revoke/", {"subscription_id": 1}),
    "subscription/retry_node": (
        HALF,
        f"{SUBSCRIPTION}/retry_node/",
        {"subscription_id": 1, "instance_id": SECOND},
    ),
    "subscription/collect_task_result_detail": (
        HALF,
        f"{SUBSCRIPTION}/collect_task_result_detail/",
        {"job_id": 1, "instance_id": SECOND},
    ),
    "host/update_single": (
        HALF,
        "/api/host/update_single/",
        {"bk_host_id": 1, "account": "root", "password": "canary-Passw0rd"},
    ),
    "host/remove_host": (HALF, "/api/host/remove_host/", {"bk_host_id": [1]}),
}
FAILED = {"10.9.0.1": "ok", "10.9.0.2": REFUSED}
TASK_CHANGES = {
    "retry": "/1/retry",
    "rollback": "/1/rollback",
    "abort": "/1/abort?note=enough",
    "confirm": "/1/confirm",
    "retry_many": "/1/subtasks/retry",
    "retry_one": "/1/subtasks/1/retry",
    "skip": "/1/subtasks/1/skip?note=enough",
    "cancel": "/1/subtasks/1/cancel",
}


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    return asker(client)


def test_every_change_is_tried_here() -> None:
    assert CHANGES.keys() == {endpoint.name for endpoint in ENDPOINTS if endpoint.once}
    assert TASK_CHANGES.keys() == {e.view.__name__ for e in task_endpoints.all if e.once}
    # one hands out a token, which is kept nowhere; the other changes nothing
    left_out = {e.name for e in ENDPOINTS if e.changes and not e.once}
    left_out |= {e.view.__name__ for e in task_endpoints.all if e.changes and not e.once}
    assert left_out == {"job/get_job_commands", "download_diagnosis"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_sent_again_is_done_once_and_answers_the_same(
    ctx: Context, call: Call, name: str
) -> None:
    given, path, body = CHANGES[name]
    arrange(ctx, given)

    first = call(path, body, headers={**header(), **KEY})
    then = everything(ctx)
    again = call(path, body, headers={**header(), **KEY})

    assert first["result"], first
    assert again == first
    assert everything(ctx) == then


@pytest.mark.parametrize("name", CHANGES)
def test_a_key_of_another_change_is_refused(ctx: Context, call: Call, name: str) -> None:
    given, path, body = CHANGES[name]
    arrange(ctx, given)
    assert call("/api/job/install/", a_call(a_row(9)), headers={**header(), **KEY})["result"]
    before = everything(ctx)

    said = call(path, {**body, "x": 1}, headers={**header(), **KEY})

    assert said["code"] == 3800001
    assert "Idempotency-Key" in said["message"]
    assert everything(ctx) == before


@pytest.mark.parametrize("name", TASK_CHANGES)
def test_an_operation_sent_again_is_done_once_and_answers_the_same(
    ctx: Context, ask: Ask, name: str
) -> None:
    prepare_task(ctx, name)

    first = ask("POST", TASK_CHANGES[name], headers=KEY)
    then = everything(ctx)
    again = ask("POST", TASK_CHANGES[name], headers=KEY)

    assert again.get("data") == first.get("data")
    assert everything(ctx) == then


@pytest.mark.parametrize("name", TASK_CHANGES)
def test_a_key_of_another_operation_is_a_conflict(ctx: Context, ask: Ask, name: str) -> None:
    prepare_task(ctx, name)
    ask("POST", TASK_CHANGES[name], headers=KEY)
    before = everything(ctx)

    path = TASK_CHANGES[name].partition("?")[0]
    said = ask("POST", f"{path}?note=other", 409, headers=KEY)

    assert said["error"]["code"] == "COM10005"
    assert everything(ctx) == before


def test_of_many_requests_at_the_same_moment_one_acts_and_all_hear_the_same(
    ctx: Context, client: FlaskClient
) -> None:
    prepare_task(ctx, "retry")
    at_once = Barrier(4)

    def retry(_number: int) -> Any:
        ask = asker(client.application.test_client())
        at_once.wait()
        return ask("POST", TASK_CHANGES["retry_one"], headers=KEY)["data"]

    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(retry, range(4)))

    assert heard == [heard[0]] * 4
    assert heard[0]["runTime"] == 2


def test_a_refusal_is_not_remembered(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2})
    assert call("/api/job/1/retry/", headers={**header(), **KEY})["code"] == 3800007
    play(ctx, FAILED)

    assert call("/api/job/1/retry/", headers={**header(), **KEY})["data"] == [1, 2]


def test_a_repeated_batch_names_what_was_refused_the_first_time(ctx: Context, ask: Ask) -> None:
    prepare_task(ctx, "retry_many")

    first = ask("POST", "/1/subtasks/retry?subtaskInstanceIds=1,99", headers=KEY)["data"][
        "contents"
    ]
    again = ask("POST", "/1/subtasks/retry?subtaskInstanceIds=1,99", headers=KEY)["data"][
        "contents"
    ]

    assert [entry["accepted"] for entry in first] == [True, False]
    assert again == first


def test_a_removed_host_that_came_back_is_not_removed_by_the_old_request(
    ctx: Context, call: Call
) -> None:
    arrange(ctx, HALF)
    for _ in range(2):
        assert call("/remove_host/", {"bk_host_id": [2]}, headers={**header(), **KEY})["result"]
        assert call("/api/job/install/", a_call(a_row(inner_ip="10.9.0.2")))["result"]

    assert call("/api/host/search/")["data"]["total"] == 2


def test_the_audit_tells_a_repetition_from_the_deed(ctx: Context, call: Call) -> None:
    arrange(ctx, HALF)
    for _ in range(2):
        call("/api/job/1/retry/", headers={**header(), **KEY})

    with reading(ctx.engine) as session:
        first, again = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert first.target == again.target == "job 1"
    assert "repeated" not in first.details
    assert again.details["repeated"] is True


def test_no_secret_is_kept_with_the_answer(ctx: Context, call: Call) -> None:
    arrange(ctx, HALF)
    edit = {"bk_host_id": 1, "account": "root", "password": "canary-Passw0rd"}
    call("/api/host/update_single/", edit, headers={**header(), **KEY})

    with reading(ctx.engine) as session:
        kept = session.scalars(select(IdempotentAnswer)).one()
    assert kept.owner == "app flows"  # a user of that name has keys of their own
    assert kept.answer == {"target": "host 1", "data": {}}


def test_the_name_of_a_condition_tells_requests_apart(ctx: Context, call: Call) -> None:
    arrange(ctx, HALF)
    asked = {"job_type": "REMOVE_AGENT", "exclude_hosts": []}
    for name, code in (("bk_host_name", 0), ("version", 3800001)):
        wanted = [{"key": name, "value": [""]}]
        said = call(
            "/api/job/operate/", {**asked, "conditions": wanted}, headers={**header(), **KEY}
        )
        assert said["code"] == code, said


def prepare_task(ctx: Context, name: str) -> None:
    """Task 1, in a state that allows this operation."""
    if name == "confirm":
        rollout = Rollout(canary=1, confirm=True)
        submit_stages(ctx, 2, "INSTALL_AGENT", rollout=rollout)
        play(ctx, {"10.9.0.1": "ok"})
    elif name == "cancel":
        submit_stages(ctx, 2, "INSTALL_AGENT")
    else:
        submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
        play(ctx, FAILED)
        if name != "skip":
            play(ctx, {"10.9.0.1": REFUSED})


def everything(ctx: Context) -> dict[str, str]:
    """All that is in the database, but for the trail of requests and who waited for whom."""
    passing = {"audit", "lease"}
    with reading(ctx.engine) as session:
        return {
            table.name: json.dumps(list(map(str, session.execute(select(table)))))
            for table in Base.metadata.sorted_tables
            if table.name not in passing
        }
