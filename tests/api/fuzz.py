"""Requests made from the published description, the same ones at every run."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any, cast

import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

Heard = Callable[[Any], None]


def operations_of(app: Flask, owned: Callable[[str], Any]) -> list[Any]:
    """The published operations at these addresses."""
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    # who calls is for the test to say; NUL characters would hide everything behind one refusal
    document.config.generation.update(with_security_parameters=False, allow_x00=False)
    found = [result.ok() for result in document.get_all_operations()]
    return [operation for operation in found if owned(operation.path)]


class Photograph:
    """All that is in a SQLite database now, to come back to."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.kept = engine, sqlite3.connect(":memory:")
        self._copy(lambda live: live.backup(self.kept))

    def restore(self) -> None:
        self._copy(self.kept.backup)

    def close(self) -> None:
        self.kept.close()

    def _copy(self, copy: Callable[[sqlite3.Connection], None]) -> None:
        with closing(self.engine.raw_connection()) as connection:
            copy(cast("sqlite3.Connection", connection.driver_connection))


def published(document: Mapping[str, Any], owned: Callable[[str], Any]) -> set[tuple[str, str]]:
    """Every (method, path) the description names at these addresses."""
    return {
        (method, path)
        for path, methods in document["paths"].items()
        if owned(path)
        for method in methods
    }


def fuzz(
    operation: Any, headers: Mapping[str, str], meant: Mapping[str, Any], heard: Heard, many: int
) -> None:
    """Send requests that fit the description: each answer fits it too, and `heard` looks at it.

    Two of three name what is there (`meant`, by field) instead of something made up.
    """

    def ask(drawn: tuple[Any, bool]) -> None:
        case, is_aimed = drawn
        response = (_aim(case, meant) if is_aimed else case).call(headers=dict(headers))
        case.validate_response(response, checks=CHECKS)
        heard(response)

    _run(st.tuples(operation.as_strategy(), st.sampled_from((True, True, False))), ask, many)


def fuzz_badly(operation: Any, headers: Mapping[str, str], heard: Heard, many: int) -> None:
    """Send requests that break the description."""

    def ask(case: Any) -> None:
        heard(case.call(headers=dict(headers)))

    with suppress(Unsatisfiable):  # without a parameter nothing can be wrong
        _run(operation.as_strategy(GenerationMode.NEGATIVE), ask, many)


def _aim(case: Any, meant: Mapping[str, Any]) -> Any:
    case.path_parameters = _named(case.path_parameters, meant)
    case.query = _named(case.query, meant)
    case.headers = _named(dict(case.headers), meant)
    case.body = _named(case.body, meant)
    return case


def _named(value: Any, meant: Mapping[str, Any]) -> Any:
    """The same, with what is there under the names we know."""
    if isinstance(value, dict):
        return {
            name: _like(inner, meant[name]) if name in meant else _named(inner, meant)
            for name, inner in value.items()
        }
    return [_named(item, meant) for item in value] if isinstance(value, list) else value


def _like(made_up: Any, real: Any) -> Any:
    """A real value where one was made up: alone, or as the list that was there."""
    if isinstance(real, dict):  # each row keeps what it says beside what is known of rows
        rows = made_up if isinstance(made_up, list) else []
        return [{**row, **real} for row in rows if isinstance(row, dict)]
    return [real] if isinstance(made_up, list) else real


def _run(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int) -> None:
    @given(strategy)
    @settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    def run(drawn: Any) -> None:
        check(drawn)

    run()
