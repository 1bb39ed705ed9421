"""An endpoint: its addresses, what it takes and gives, and the right it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flask import Blueprint, Response, g
from marshmallow import Schema, ValidationError, fields

from app.access.caller import Role
from app.access.wire_keys import WireSecrets
from app.api.auth import Call, audited, open_call
from app.api.dialect import context, parameters
from app.api.nodeman.envelope import ok
from app.api.nodeman.fields import Asked
from app.domain.errors import InvalidRequest
from app.models.base import reading

View = Callable[[Call, Any], Any]


class Nothing(Asked):
    """No parameters."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One thing callers can ask for."""

    name: str
    title: str
    paths: tuple[str, ...]
    takes: type[Schema]
    gives: fields.Field[Any]
    role: Role
    changes: bool
    also_get: bool  # clients in the field read with either method
    once: bool  # whether an Idempotency-Key counts: a repeated call is answered from memory
    view: View

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "POST") if self.also_get else ("POST",)

    def __call__(self, **path: str) -> Response:
        ctx = context()
        if not self.changes:
            return ok(self._run(open_call(ctx, parameters() | path, self.role)))
        with audited(ctx, self.name) as calls:
            calls.append(open_call(ctx, parameters() | path, self.role))
            answer = self._run(calls[0])
        return ok(answer)

    def _run(self, call: Call) -> Any:
        with reading(call.ctx.engine) as session:
            g.open_secret = WireSecrets(session, call.ctx.vault).open
            asked = load(self.takes(), call.parameters)
        return call.once(lambda: self._dump(call, asked)) if self.once else self._dump(call, asked)

    def _dump(self, call: Call, asked: Any) -> Any:
        return self.answer.dump({"data": self.view(call, asked)})["data"]

    @cached_property
    def answer(self) -> Schema:
        """The shape of `data`, which is also what the API description shows."""
        return Schema.from_dict({"data": self.gives})()


class Endpoints:
    """The endpoints of a group of addresses, in the order they are written."""

    def __init__(self) -> None:
        self.all: list[Endpoint] = []

    def read(self, *paths: str, **about: Any) -> Callable[[View], View]:
        """An endpoint that only looks; every viewer may."""
        return self._add(paths, role=Role.VIEWER, changes=False, **about)

    def change(
        self, *paths: str, role: Role = Role.OPERATOR, **about: Any
    ) -> Callable[[View], View]:
        """An endpoint that changes something; each call of it is audited."""
        return self._add(paths, role=role, changes=True, **about)

    def _add(
        self,
        paths: tuple[str, ...],
        *,
        title: str,
        gives: fields.Field[Any],
        takes: type[Schema] = Nothing,
        role: Role,
        changes: bool,
        also_get: bool = False,
        once: bool = True,
    ) -> Callable[[View], View]:
        def keep(view: View) -> View:
            self.all.append(
                Endpoint(
                    name=_name(paths[0]),
                    title=title,
                    paths=paths,
                    takes=takes,
                    gives=gives,
                    role=role,
                    changes=changes,
                    also_get=also_get or not changes,
                    once=changes and once,
                    view=view,
                )
            )
            return view

        return keep

    def register(self, blueprint: Blueprint) -> None:
        for endpoint in self.all:
            for number, path in enumerate(endpoint.paths):
                name = endpoint.name.replace("/", "_").replace(".", "_")
                blueprint.add_url_rule(
                    path, f"{name}_{number}" if number else name, endpoint, methods=endpoint.methods
                )


def _name(path: str) -> str:
    """What the audit calls it: the path without the layer and without its variables."""
    words = [word for word in path.split("/") if word and not word.startswith("<")]
    return "/".join(word for word in words if word not in ("api", "backend", "core"))


def load(schema: Schema, given: Mapping[str, Any]) -> Any:
    """What was asked, or InvalidRequest with every wrong field named."""
    try:
        return schema.load({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise refusal(error.normalized_messages()) from None  # type: ignore[no-untyped-call]


def refusal(problems: Mapping[str, Any]) -> InvalidRequest:
    """What is wrong with a request, by field, as an error to raise."""
    return InvalidRequest(_sentence(problems), errors=_plain(problems))


def _sentence(messages: Mapping[Any, Any]) -> str:
    """The first few wrong fields, each with what is wrong."""
    problems = list(_flat("", messages))
    shown = "; ".join(f"{place}: {text}" if place else text for place, text in problems[:SHOWN])
    more = len(problems) - SHOWN
    return f"{shown}; and {more} more." if more > 0 else f"{shown}."


SHOWN = 5


def _flat(place: str, messages: Any) -> Any:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            name = "" if key == "_schema" else str(key)
            yield from _flat(f"{place}.{name}".strip("."), inner)
        return
    for text in messages if isinstance(messages, list) else [messages]:
        if isinstance(text, Mapping):
            yield from _flat(place, text)
        else:
            yield place, str(text).rstrip(".")


def _plain(messages: Any) -> Any:
    """The messages with text keys, as JSON wants them."""
    if isinstance(messages, Mapping):
        return {str(key): _plain(value) for key, value in messages.items()}
    return [_plain(item) for item in messages] if isinstance(messages, list) else messages
