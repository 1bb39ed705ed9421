# ruff: noqa: N815 - the words of the wire
"""What this language takes and gives: queries, ids in paths, and the shape of `data`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask import request
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from app.api.ocp import vocabulary
from app.domain.errors import InvalidRequest
from app.domain.text import UNSTORABLE
from app.jobs.graph_views import TaskFilter

MAX_SIZE = 2000
MAX_PAGE = 10**9
MAX_ID = 2**63 - 1
MAX_LIMIT = 16 << 20
MAX_TAIL = 100_000
MAX_NOTE = 500
NUMBER = re.compile(r"-?[0-9]{1,19}")


# --- What is asked ------------------------------------------------------------------------------


def read_id(name: str, text: str) -> int:
    """A number from a path; one that no row can have is still a number."""
    if not NUMBER.fullmatch(text) or abs(int(text)) > MAX_ID:
        raise InvalidRequest(f"{name} must be a number, not {text!r}.", field=name, value=text)
    return int(text)


def query() -> dict[str, str]:
    """The parameters that say something; a repeated one is the same as a list with commas."""
    said = {}
    for name, values in request.args.lists():
        text = ",".join(value for value in values if value.strip())
        if UNSTORABLE.search(text):
            raise InvalidRequest(f"{name} holds a character that is not text.", field=name)
        if text:
            said[name] = text
    return said


def load(schema: type["Query"], said: Mapping[str, str]) -> Any:
    """What was asked, or InvalidRequest with every wrong parameter named."""
    try:
        return schema().load(said)
    except ValidationError as error:
        wrong = error.normalized_messages()  # type: ignore[no-untyped-call]
        problems = [(str(name), " ".join(_texts(found))) for name, found in wrong.items()]
        raise InvalidRequest(
            " ".join(f"{name}: {text}" for name, text in problems),
            problems=[(name, said.get(name), text) for name, text in problems],
        ) from None


def _texts(found: Any) -> Iterator[str]:
    if isinstance(found, Mapping):
        for inner in found.values():
            yield from _texts(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _texts(inner)
    else:
        yield str(found)


class Words(fields.Field[tuple[str, ...]]):
    """Some of these words, with commas between."""

    def __init__(self, known: frozenset[str], **more: Any) -> None:
        super().__init__(**more)
        self.known = known

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        words = tuple(word.strip().upper() for word in value.split(",") if word.strip())
        if unknown := sorted(set(words) - self.known):
            known = ", ".join(sorted(self.known))
            raise ValidationError(f"There is no {', '.join(unknown)}; there are {known}.")
        return words


class Query(Schema):
    """No parameters."""

    class Meta:
        unknown = EXCLUDE  # clients repeat path ids in the query


def _number(lowest: int, highest: int, **more: Any) -> fields.Integer:
    return fields.Integer(validate=validate.Range(lowest, highest), **more)


class TaskQuery(Query):
    """Which tasks, in which order, and which page of them."""

    name = fields.String(metadata={"description": "a part of the name, in any case"})
    keyword = fields.String(metadata={"description": "the same, as /api/v1 calls it"})
    status = Words(frozenset(vocabulary.TASK_STATUS_OF))
    type = Words(vocabulary.TYPES)
    clusterName = fields.String()
    cluterName = fields.String(metadata={"description": "the same, as the original spells it"})
    clusterId = _number(0, MAX_ID, metadata={"description": "a business"})
    tenantId = _number(0, MAX_ID, metadata={"description": "no task here belongs to a tenant"})
    tenantName = fields.String(metadata={"description": "only counts with clusterId"})
    hostId = _number(0, MAX_ID)
    page = _number(1, MAX_PAGE, load_default=1)
    size = _number(1, MAX_SIZE, load_default=10)
    sort = fields.String(
        load_default="id,desc", metadata={"description": "field,asc or field,desc"}
    )

    @post_load
    def build(self, said: dict[str, Any], **_: Any) -> tuple[TaskFilter, int, int]:
        page, size = said["page"], said["size"]
        wanted = TaskFilter(
            name=said.get("name") or said.get("keyword"),
            statuses=_statuses(said.get("status")),
            business_id=said.get("clusterId"),
            business_name=said.get("clusterName") or said.get("cluterName"),
            host_id=said.get("hostId"),
            nothing=_fits_nothing(said),
            sort=_sort(said["sort"]),
            skip=(page - 1) * size,
            take=size,
        )
        return wanted, page, size


def _statuses(words: tuple[str, ...] | None) -> Any:
    return frozenset(vocabulary.TASK_STATUS_OF[word] for word in words) if words else None


def _fits_nothing(said: Mapping[str, Any]) -> bool:
    """Whether this asks for kinds of tasks we do not have: of tenants, or made by a schedule."""
    of_tenant = "tenantId" in said or ("tenantName" in said and "clusterId" in said)
    return of_tenant or ("type" in said and vocabulary.MANUAL not in said["type"])


def _sort(text: str) -> tuple[tuple[str, bool], ...]:
    """`field,asc` or `field,desc`, several of them one after the other."""
    order: list[tuple[str, bool]] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word.lower() in ("asc", "desc") and order:
            order[-1] = (order[-1][0], word.lower() == "asc")
        elif word in vocabulary.SORT_FIELDS:
            order.append((vocabulary.SORT_FIELDS[word], True))
        else:
            fields_known = ", ".join(vocabulary.SORT_FIELDS)
            raise vocabulary.Unsortable(
                f"This list cannot be sorted by {word!r}, but by {fields_known}.",
                field="sort",
                value=text,
            )
    return tuple(order) or (("id", False),)


class LogQuery(Query):
    """Which part of a log, counted in bytes of UTF-8; nothing asked: all of it."""

    offset = _number(0, MAX_ID)
    limit = _number(0, MAX_LIMIT)
    tail = _number(1, MAX_TAIL, metadata={"description": "the last so many lines"})

    @post_load
    def check(self, said: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "tail" in said and ("offset" in said or "limit" in said):
            raise ValidationError("It does not go together with offset and limit.", "tail")
        return said


class Noted(Query):
    """Why, for the record."""

    note = fields.String(load_default="", validate=validate.Length(max=MAX_NOTE))


class Chosen(Query):
    """Which subtasks; none named: every failed one."""

    subtaskInstanceIds = fields.String(metadata={"description": "ids with commas between"})

    @post_load
    def build(self, said: dict[str, Any], **_: Any) -> tuple[int, ...] | None:
        text = said.get("subtaskInstanceIds")
        if text is None:
            return None
        ids = [word.strip() for word in text.split(",") if word.strip()]
        return tuple(dict.fromkeys(read_id("subtaskInstanceIds", word) for word in ids))


# --- What is given ------------------------------------------------------------------------------


class Named(Schema):
    """Somebody or something with a name; `id` only where there is one."""

    id = fields.Integer()
    name = fields.String(required=True)


class Cluster(Schema):
    """The business whose hosts a task works on."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    obClusterId = fields.Integer(required=True)
    type = fields.String(required=True)


class May(Schema):
    """Whether an operation is allowed now, and if not, why not and in which states it would be."""

    allowed = fields.Boolean(required=True)
    reason = fields.String()
    allowedStates = fields.List(fields.String())


class Attempt(Schema):
    """One execution of a subtask."""

    runTime = fields.Integer(required=True)
    operation = fields.String(required=True)
    direction = fields.String(required=True)
    status = fields.String(required=True)
    outcome = fields.String()
    createTime = fields.String(required=True)
    startTime = fields.String()
    finishTime = fields.String()
    logSize = fields.Integer(required=True)


class FailedHost(Schema):
    """A host that failed in this subtask, and why."""

    hostId = fields.Integer(required=True)
    address = fields.String(required=True)
    status = fields.String(required=True)
    cause = fields.String()
    reason = fields.String(required=True)


class BasicSubtask(Schema):
    """A subtask in a list of tasks."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    description = fields.String(required=True)
    status = fields.String(required=True)
    operation = fields.String(required=True)


class SubtaskInstance(BasicSubtask):
    """A subtask with its place in the graph; wave, direction and what follows are ours."""

    seriesId = fields.Integer(required=True)
    timeout = fields.Integer(required=True, metadata={"description": "seconds"})
    executor = fields.String()
    runTime = fields.Integer(required=True)
    createTime = fields.String(required=True)
    startTime = fields.String()
    finishTime = fields.String()
    nodeType = fields.String(required=True)
    parallelIdx = fields.Integer(required=True)
    upstreams = fields.List(fields.Integer(), required=True)
    downstreams = fields.List(fields.Integer(), required=True)
    prohibitRollback = fields.Boolean(required=True)
    direction = fields.String(required=True)
    wave = fields.Integer(metadata={"description": "of the rollout"})
    capabilities = fields.Dict(keys=fields.String(), values=fields.Nested(May), required=True)
    hosts = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    causes = fields.Dict(keys=fields.String(), values=fields.Integer())
    history = fields.List(fields.Nested(Attempt), required=True)
    failedHosts = fields.List(fields.Nested(FailedHost))


class BasicTask(Schema):
    """A task in a list."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    cluster = fields.Nested(Cluster)
    clusters = fields.List(fields.Nested(Cluster), metadata={"description": "where several"})
    creator = fields.Nested(Named, required=True)
    status = fields.String(required=True)
    type = fields.String(required=True)
    operation = fields.String(required=True)
    createTime = fields.String(required=True)
    startTime = fields.String()
    finishTime = fields.String()
    jobId = fields.Integer(required=True)
    subtasks = fields.List(fields.Nested(BasicSubtask), required=True)


class Rollout(Schema):
    """How far a rollout has come."""

    waves = fields.List(fields.Integer(), required=True, metadata={"description": "hosts in each"})
    openWave = fields.Integer(required=True)
    nextWaveTime = fields.String()
    waitsForPerson = fields.Boolean(required=True)


class WrappedTask(BasicTask):
    """A task with its whole graph; the subtasks are in no promised order."""

    taskDefinitionId = fields.Integer(required=True)
    executor = fields.String()
    prohibitRollback = fields.Boolean(required=True)
    direction = fields.String(required=True)
    aborted = fields.Boolean()
    rollout = fields.Nested(Rollout)
    newerTaskId = fields.Integer(metadata={"description": "a later task of the same job"})
    capabilities = fields.Dict(keys=fields.String(), values=fields.Nested(May), required=True)
    subtasks = fields.List(fields.Nested(SubtaskInstance), required=True)


class PageFacts(Schema):
    """Where a page stands among all."""

    number = fields.Integer(required=True)
    size = fields.Integer(required=True)
    totalElements = fields.Integer(required=True)
    totalPages = fields.Integer(required=True)


class TaskPage(Schema):
    """A page of tasks."""

    contents = fields.List(fields.Nested(BasicTask), required=True)
    page = fields.Nested(PageFacts, required=True)


class Names(Schema):
    """Names, in order."""

    contents = fields.List(fields.String(), required=True)


class Log(Schema):
    """The text of a subtask's attempts; the other fields are ours and count bytes of UTF-8."""

    log = fields.String(required=True)
    offset = fields.Integer(required=True)
    nextOffset = fields.Integer(required=True)
    size = fields.Integer(required=True)
    complete = fields.Boolean(required=True, metadata={"description": "nothing more will come"})


class RetriedSubtask(Schema):
    """What became of one of many subtasks that were to be retried."""

    id = fields.Integer(required=True)
    accepted = fields.Boolean(required=True)
    reason = fields.String()


class Retried(Schema):
    """What became of each."""

    contents = fields.List(fields.Nested(RetriedSubtask), required=True)
