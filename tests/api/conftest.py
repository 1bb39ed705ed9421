"""An installation that is spoken to: a Flask client over real SQLite and a real Redis."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.access.apps import create_app as create_program
from app.access.wire_keys import ensure_wire_key
from app.factory import create_app
from app.jobs.context import Context
from app.models.base import transaction
from tests.api.ocp import add_people
from tests.jobs.conftest import (  # noqa: F401 - fixtures
    ctx,
    install,
    postgres_ctx,
    prepare,
    redis_socket,
)

SECRET = "a-random-secret-of-the-caller"


def header(code: str = "flows", secret: str = SECRET, user: str = "alice") -> dict[str, str]:
    said = {"bk_app_code": code, "bk_app_secret": secret, "bk_username": user}
    return {"X-Bkapi-Authorization": json.dumps(said)}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start leaves, with programs and people; their slow hashes are made once."""
    return prepare(tmp_path_factory.mktemp("prepared"), add_programs, add_people)


def add_programs(ctx: Context) -> None:  # noqa: F811
    """Programs that may call: flows, reader, scoped and boss."""
    with transaction(ctx.engine) as session:
        ensure_wire_key(session, ctx.vault)
        create_program(session, "flows", "operator", None, SECRET)
        create_program(session, "reader", "viewer", None, SECRET)
        create_program(session, "scoped", "operator", [2], SECRET)
        create_program(session, "boss", "admin", None, SECRET)


@pytest.fixture
def client(ctx: Context) -> FlaskClient:  # noqa: F811
    """A client of an installation after its first start."""
    return create_app(ctx).test_client()


Call = Callable[..., Any]


@pytest.fixture
def call(client: FlaskClient) -> Call:
    """POST JSON as `flows` and give the envelope back."""

    def post(path: str, body: Any = None, *, method: str = "POST", **more: Any) -> Any:
        more.setdefault("headers", header(more.pop("code", "flows")))
        return read(client.open(path, method=method, json=body or {}, **more))

    return post


def read(response: TestResponse) -> Any:
    """The envelope, after a look at what every answer has in common."""
    assert response.status_code == 200, response.text
    said = response.get_json()
    check_envelope(said)
    return said


def check_envelope(said: Any) -> None:
    """What every answer has in common."""
    assert {"result", "code", "data", "message"} <= said.keys()
    assert said["result"] is (said["code"] == 0)
    if not said["result"]:
        assert said["message"].endswith(f"（{said['code']}）")
        assert "errors" in said


def a_row(number: int = 1, **more: Any) -> dict[str, Any]:
    """A host row as clients send it."""
    row = {
        "bk_biz_id": 2,
        "bk_cloud_id": 0,
        "ap_id": 1,
        "os_type": "LINUX",
        "inner_ip": f"10.1.{number // 250}.{number % 250 + 1}",
        "account": "root",
        "port": 22,
        "auth_type": "PASSWORD",
        "password": "correct horse",
    }
    return {**row, **more}


def a_call(*rows: dict[str, Any], job_type: str = "INSTALL_AGENT", **more: Any) -> dict[str, Any]:
    """The body of an install call."""
    return {"job_type": job_type, "hosts": list(rows or (a_row(),)), **more}
