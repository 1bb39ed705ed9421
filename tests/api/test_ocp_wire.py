"""The OCP contract as data: each file says what was there, what is asked, and what is answered."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from app.factory import create_app
from app.jobs.context import Context
from tests.api.given import play
from tests.api.ocp import basic, submit_stages
from tests.api.test_wire import _strict, compare, operation_of

FOLDER = Path(__file__).parent.parent / "wire" / "ocp"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['says']}")
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text())
]


@pytest.fixture
def web(ctx: Context) -> FlaskClient:
    return create_app(ctx).test_client()


@pytest.mark.parametrize("case", CASES)
def test_the_wire_says_what_the_contract_says(
    case: dict[str, Any], ctx: Context, web: FlaskClient
) -> None:
    arrange(ctx, case.get("given", {}))

    response = ask(web, case["request"])

    assert response.status_code == case.get("status", 200), response.text
    said = response.get_json()
    differences = list(compare("", case["response"], said))
    assert not differences, json.dumps(said, ensure_ascii=False, indent=1)
    check_description(web, case["request"], response.status_code, said)


def arrange(ctx: Context, given: Mapping[str, Any]) -> None:
    """A job of these `stages` on so many `hosts`, whose runs were `played` one after the other."""
    if stages := given.get("stages"):
        submit_stages(ctx, given["hosts"], *stages)
    for played in given.get("played", []):
        play(ctx, played)


def ask(web: FlaskClient, request: Mapping[str, Any]) -> Any:
    name = request.get("as", "olga")
    headers = {**(basic(name) if name else {}), **request.get("headers", {})}
    data = request["raw"].encode() if "raw" in request else None
    method = request.get("method", "POST")
    return web.open(request["path"], method=method, headers=headers, data=data)


def check_description(web: FlaskClient, request: Mapping[str, Any], status: int, said: Any) -> None:
    """Every answer looks as /openapi.json says, refusals too."""
    document = web.get("/openapi.json").get_json()
    operation = operation_of(document, request["path"], request.get("method", "POST"))
    if operation is None or str(status) not in operation["responses"]:
        return
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    known = {"schemas": _strict(document["components"]["schemas"])}
    validator = Draft202012Validator({**_strict(schema), "components": known})
    assert not [error.message for error in validator.iter_errors(said)]
