"""Whatever is sent to the OCP language, it answers in its own words and never breaks."""

import re
from contextlib import closing
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.api.ocp import schemas
from app.factory import create_app
from app.jobs.context import Context
from tests.api.fuzz import Photograph, fuzz, fuzz_badly, operations_of, published
from tests.api.given import play
from tests.api.ocp import TASKS, basic, submit_stages

MEANT = {"taskInstanceId": 1, "subtaskInstanceId": 1, "subtaskInstanceIds": "1"}


def ours(path: str) -> bool:
    return re.match("/api/v[12]/tasks", path) is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_that_is_sent_breaks_it(ctx: Context) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, {"10.9.0.1": "ok", "10.9.0.2": ["auth", "wrong password"]})
    app = create_app(ctx)
    tried = set()

    with closing(Photograph(ctx.engine)) as before:
        for operation in operations_of(app, ours):
            fuzz(operation, basic("ada"), MEANT, check, many=12)
            fuzz_badly(operation, basic("ada"), check, many=5)
            tried.add((operation.method, operation.path))
            before.restore()

    document = app.test_client().get("/openapi.json").get_json()
    assert tried == published(document, ours)
    assert len(tried) > 24


def check(response: Any) -> None:
    assert response.status_code < 500, response.text
    assert b"Traceback" not in response.content
    if response.headers["content-type"] != ["application/zip"]:
        assert response.json()["successful"] is (response.status_code == 200)


HOSTILE = ["0", "-1", "9" * 19, "9" * 40, "1e3", "１", "null", "a'b", "%00", "..%2f1", "1;2", "é"]


@pytest.fixture
def web(ctx: Context) -> FlaskClient:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    return create_app(ctx).test_client()


def test_hostile_ids_are_refused(web: FlaskClient) -> None:
    for text in HOSTILE:
        for path in (f"/{text}", f"/1/subtasks/{text}", f"/{text}/subtasks/1/log"):
            response = web.get(f"{TASKS}{path}", headers=basic("olga"))
            assert response.status_code in (400, 404), response.text
            assert response.get_json()["successful"] is False


def test_hostile_parameters_are_refused_or_find_nothing_odd(web: FlaskClient) -> None:
    for name in schemas.TaskQuery().fields:
        for text in HOSTILE:
            response = web.get(f"{TASKS}?{name}={text}", headers=basic("olga"))
            assert response.status_code in (200, 400), response.text
    for name in schemas.LogQuery().fields:
        for text in HOSTILE:
            response = web.get(f"{TASKS}/1/subtasks/1/log?{name}={text}", headers=basic("olga"))
            assert response.status_code in (200, 400), response.text
