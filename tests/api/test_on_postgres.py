"""The same answers on PostgreSQL, whose numbers and texts have limits that SQLite's have not."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.api.nodeman.routes import ENDPOINTS
from app.api.nodeman.schemas_submit import HostRow
from app.factory import create_app
from app.jobs.context import Context
from tests.api.conftest import a_call, a_row, add_programs, header, read
from tests.api.given import arrange
from tests.api.ocp import add_people, asker, basic

EXTREMES: list[Any] = [2**63 - 1, -(2**63 - 1), 2**40, "9" * 19, "漢" * 1024, "\\N\t\n'\"", "%"]


@pytest.fixture
def client(postgres_ctx: Context) -> FlaskClient:
    add_programs(postgres_ctx)
    add_people(postgres_ctx)
    arrange(postgres_ctx, {"hosts": 2, "played": {"10.9.0.1": "ok"}})
    return create_app(postgres_ctx).test_client()


@pytest.mark.slow
def test_no_value_of_any_field_breaks_an_endpoint(client: FlaskClient) -> None:
    for endpoint in ENDPOINTS:
        path = endpoint.paths[0].replace("<job_id>", "1")
        base = {"job_id": 1, "subscription_id": 1, "bk_host_id": 1, "job_type": "RESTART_AGENT"}
        for name in endpoint.takes().fields:
            for value in EXTREMES:
                for said in (value, [value]):
                    answer = client.post(path, json=base | {name: said}, headers=header())
                    assert read(answer)["code"] != 50000, (path, name, said)


@pytest.mark.slow
def test_no_value_of_a_host_breaks_a_submission(client: FlaskClient) -> None:
    for number, name in enumerate(HostRow().fields):
        for value in [*EXTREMES, "a" * 60, "a" * 120, "a" * 250]:
            row = a_row(number) | {name: value}
            answer = client.post("/api/job/install/", json=a_call(row), headers=header())
            assert read(answer)["code"] != 50000, (name, value)


@pytest.mark.slow
def test_no_value_of_any_parameter_breaks_an_address(client: FlaskClient) -> None:
    described = client.get("/openapi.json").get_json()["paths"]
    for path, operations in described.items():
        asked = operations.get("get", {}).get("parameters", [])
        for parameter in (found for found in asked if found.get("in") == "query"):
            for value in EXTREMES:
                at = re.sub(r"\{\w+\}", "1", path)
                said = {parameter["name"]: str(value)}
                with client.get(at, query_string=said, headers=basic("olga")) as answer:
                    assert answer.status_code < 500, (at, said, answer.text)


@pytest.mark.parametrize("job_id", [2**40, 2**63 - 1])
def test_a_number_no_row_has_is_simply_not_there(client: FlaskClient, job_id: int) -> None:
    said = client.post(f"/api/job/{job_id}/details/", json={}, headers=header()).get_json()
    assert said["code"] == 3801012

    page = client.get(f"/api/job/{job_id}/events/", headers=header())
    assert page.status_code == 404
    asker(client)("GET", f"/{job_id}", status=404)
