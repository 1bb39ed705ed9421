"""The contract as data: each file says what was there, what is asked, and what is answered."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from app.jobs.context import Context
from tests.api.conftest import SECRET, header
from tests.api.given import arrange

FOLDER = Path(__file__).parent.parent / "wire" / "nodeman"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['says']}")
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text())
]


@pytest.mark.parametrize("case", CASES)
def test_the_wire_says_what_the_contract_says(
    case: dict[str, Any], ctx: Context, client: FlaskClient
) -> None:
    arrange(ctx, case.get("given", {}))

    response = ask(client, case["request"])

    assert response.status_code == case.get("status", 200), response.text
    said = response.get_json()
    differences = list(compare("", case["response"], said))
    assert not differences, json.dumps(said, ensure_ascii=False, indent=1)
    check_description(client, case["request"], said)


def ask(client: FlaskClient, request: dict[str, Any]) -> Any:
    asked = dict(request)
    code = asked.pop("as", "flows")
    headers = {**(header(code, SECRET) if code else {}), **asked.pop("headers", {})}
    method = asked.pop("method", "POST")
    if "body" in asked:
        asked["json"] = asked.pop("body")
    elif method == "POST" and not {"form", "raw"} & asked.keys():
        asked["json"] = {}
    if "form" in asked:
        asked["data"] = asked.pop("form")
    if "raw" in asked:
        asked["data"] = asked.pop("raw").encode("latin-1")
    return client.open(asked.pop("path"), method=method, headers=headers, **asked)


def compare(place: str, wanted: Any, said: Any) -> Any:
    """Where the answer differs from the pattern.

    Objects may hold more than the pattern says; a text `~…` is a regular expression, `*` is
    anything, and a key `-name` says that there is no `name`.
    """
    if isinstance(wanted, dict) and isinstance(said, dict):
        for name, inner in wanted.items():
            if name.startswith("-"):
                if name[1:] in said:
                    yield f"{place}.{name[1:]} is there"
            elif name not in said:
                yield f"{place}.{name} is missing"
            else:
                yield from compare(f"{place}.{name}", inner, said[name])
    elif isinstance(wanted, list) and isinstance(said, list):
        if len(wanted) != len(said):
            yield f"{place} has {len(said)} entries, not {len(wanted)}"
        for index, (inner, found) in enumerate(zip(wanted, said, strict=False)):
            yield from compare(f"{place}.{index}", inner, found)
    elif wanted == "*":
        return
    elif isinstance(wanted, str) and wanted.startswith("~"):
        if not isinstance(said, str) or not re.search(wanted[1:], said):
            yield f"{place}: {said!r} does not match {wanted[1:]!r}"
    elif wanted != said or type(wanted) is not type(said):
        yield f"{place}: {said!r} is not {wanted!r}"


def check_description(client: FlaskClient, request: dict[str, Any], said: Any) -> None:
    """Every answer looks as /openapi.json says, refusals too."""
    document = client.get("/openapi.json").get_json()
    operation = operation_of(document, request["path"], request.get("method", "POST"))
    answer = (operation or {}).get("responses", {}).get("200", {})
    if "content" not in answer:
        return
    schema = answer["content"]["application/json"]["schema"]
    whole = {
        **_strict(schema),
        "components": {"schemas": _strict(document["components"]["schemas"])},
    }
    errors = [error.message for error in Draft202012Validator(whole).iter_errors(said)]
    assert not errors


def operation_of(document: dict[str, Any], path: str, method: str) -> Any:
    """The operation an address means, if it is written as the description writes it."""
    path = path.partition("?")[0]
    for pattern, methods in document["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
            return methods.get(method.lower())
    return None


def _strict(schema: Any) -> Any:
    """The schema as JSON Schema has it, with no room for fields it does not name."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(inner) for name, inner in schema.items()}
    if isinstance(found.get("type"), str) and found.pop("nullable", False):
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    if found.get("type") == "object" and found.get("properties"):
        found.setdefault("additionalProperties", False)
    return found
