"""What tests of the OCP language share: people, passwords, and a look at every envelope."""

import base64
import re
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.access.users import create_user
from app.domain.commands import NextStage, SubmitJob
from app.jobs.context import Context
from app.jobs.submit import submit_job
from app.models.base import transaction
from tests.jobs.conftest import a_host

PASSWORD = "correct horse"
TASKS = "/api/v2/tasks/instances"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d")

Ask = Callable[..., Any]


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def add_people(ctx: Context) -> None:
    """olga operates, vera only looks, sam operates in business 3 alone, ada is an admin."""
    with transaction(ctx.engine) as session:
        create_user(session, "olga", PASSWORD, "operator")
        create_user(session, "vera", PASSWORD, "viewer")
        create_user(session, "sam", PASSWORD, "operator", [3])
        create_user(session, "ada", PASSWORD, "admin")


def read(response: TestResponse, status: int = 200) -> Any:
    """The envelope, after a look at what every answer has in common."""
    assert response.status_code == status, response.text
    said = response.get_json()
    assert said["successful"] is (status == 200)
    assert said["status"] == status
    assert MOMENT.fullmatch(said["timestamp"])
    assert re.fullmatch("[0-9a-f]{16}", said["traceId"])
    assert isinstance(said["duration"], int)
    assert said["server"]
    assert "null" not in response.text
    assert "Traceback" not in response.text
    if status == 200:
        assert "error" not in said
    else:
        assert "data" not in said
        assert isinstance(said["error"]["code"], str)
        assert said["error"]["message"]
    return said


def asker(client: FlaskClient, name: str = "olga") -> Ask:
    """Ask as that person and get the envelope."""

    def ask(method: str, path: str, status: int = 200, **more: Any) -> Any:
        headers = basic(name) | more.pop("headers", {})
        return read(client.open(TASKS + path, method=method, headers=headers, **more), status)

    return ask


def submit_stages(ctx: Context, hosts: int, *job_types: str, **more: Any) -> int:
    """A job of several stages over so many hosts."""
    rows = tuple(a_host(n) for n in range(hosts))
    then = tuple(NextStage(job_type=name) for name in job_types[1:])
    command = SubmitJob(job_type=job_types[0], hosts=rows, created_by="alice", then=then, **more)
    return submit_job(ctx, command).task_id
