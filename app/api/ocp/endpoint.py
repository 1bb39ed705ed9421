"""An endpoint: its addresses, what it takes and gives, and the right it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g
from marshmallow import Schema

from app.access.caller import Role, require
from app.api.auth import Call, audited
from app.api.callers import find_caller
from app.api.dialect import context, language
from app.api.ocp.envelope import ok
from app.api.ocp.schemas import Query, load, query, read_id
from app.domain.errors import InvalidRequest
from app.jobs.context import Context
from app.jobs.graph_queries import get_subtask, get_task_outline

View = Callable[..., Any]
VERSIONS = ("/api/v2", "/api/v1")
IDS = {"task_id": "taskInstanceId", "subtask_id": "subtaskInstanceId"}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One thing callers can ask for; bodies are read by nobody."""

    name: str
    title: str
    method: str
    paths: tuple[str, ...]  # below each version
    takes: type[Query]
    gives: type[Schema] | None
    role: Role
    changes: bool
    once: bool  # whether an Idempotency-Key counts: a repeated call is answered from memory
    view: View

    def __call__(self, **path: str) -> Response:
        ctx = context()
        if not self.changes:
            return _answer(self._run(self._open(ctx), path))
        with audited(ctx, self.name) as calls:
            calls.append(self._open(ctx))
            answer = self._run(calls[0], path)
        return _answer(answer)

    def _open(self, ctx: Context) -> Call:
        caller = g.caller = find_caller(ctx)
        require(caller, self.role)
        return Call(ctx, caller, {}, language())

    def _run(self, call: Call, path: Mapping[str, str]) -> Any:
        ids = {name: read_id(IDS[name], text) for name, text in path.items()}
        try:
            call.parameters = query()
            asked = load(self.takes, call.parameters)
        except InvalidRequest:
            self._find(call, **ids)  # what is not there, or not theirs, is said first
            raise
        if not self.once:
            return self.view(call, asked, **ids)
        return call.once(lambda: self.view(call, asked, **ids))

    def _find(self, call: Call, task_id: int | None = None, subtask_id: int | None = None) -> None:
        if task_id is not None:
            require(call.caller, self.role, get_task_outline(call.ctx, task_id).business_ids)
        if task_id is not None and subtask_id is not None:
            get_subtask(call.ctx, task_id, subtask_id)


def _answer(answer: Any) -> Response:
    return answer if isinstance(answer, Response) else ok(answer)


class Endpoints:
    """The endpoints of this language, in the order they are written."""

    def __init__(self) -> None:
        self.all: list[Endpoint] = []

    def read(self, *paths: str, **about: Any) -> Callable[[View], View]:
        """An endpoint that only looks: TASK_VIEWER."""
        return self._add(paths, method="GET", role=Role.VIEWER, changes=False, once=False, **about)

    def change(
        self, *paths: str, role: Role = Role.OPERATOR, once: bool = True, **about: Any
    ) -> Callable[[View], View]:
        """An endpoint that changes something: TASK_MANAGER; each call of it is audited."""
        return self._add(paths, method="POST", role=role, changes=True, once=once, **about)

    def _add(
        self,
        paths: tuple[str, ...],
        *,
        title: str,
        gives: type[Schema] | None = None,
        takes: type[Query] = Query,
        **about: Any,
    ) -> Callable[[View], View]:
        def keep(view: View) -> View:
            name = f"task.{view.__name__}"
            self.all.append(
                Endpoint(
                    name=name, title=title, paths=paths, takes=takes, gives=gives, view=view,
                    **about,
                )
            )  # fmt: skip
            return view

        return keep

    def register(self, blueprint: Blueprint) -> None:
        for endpoint in self.all:
            for version in VERSIONS:
                for number, path in enumerate(endpoint.paths):
                    blueprint.add_url_rule(
                        f"{version}{path}",
                        f"{endpoint.view.__name__}_{version[-2:]}_{number}",
                        endpoint,
                        methods=[endpoint.method],
                    )
