"""The OCP language on large things: one task of 1000 subtasks, and a list over 100 000 tasks.

The large task is a real job of 1000 hosts in slices of one. The many tasks are rows made from that
task's, in all its states. Both are asked for over HTTP on a connection that stays open; the list by
its first page, a deep page, a status, a part of a name and one host.
"""

import itertools
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Table, func, insert, select

from app.domain.states import TaskStatus
from app.jobs.context import Context
from app.jobs.submit import submit_job
from app.models.base import Base, chunks, now, transaction
from app.models.work import Job, Subscription, Subtask, Task
from tests.bench.big_job import timed
from tests.bench.events import a_job
from tests.bench.figure import Bench, Figure, Profile, Result, percentile, spread
from tests.bench.place import Asked, Place, installation

DETAIL = Figure("task_of_1000_subtasks_p99", "ms", 150)
LIST = Figure("list_of_100000_tasks_p99", "ms", 100)

SUBTASKS = 1000
TASKS = 100_000
REQUESTS = 200
PATH = "/api/v2/tasks/instances"
LISTS = (
    "?size=10",
    "?size=10&page=5000",
    "?size=10&status=RUNNING",
    "?size=10&name=7777",
    "?size=10&hostId=1",
    "?size=10&sort=createTime,asc",
)


def measure(profile: Profile, _place: Place) -> Iterator[Result]:
    with installation(workers=0, slice_size=1) as asked:
        ctx = asked.installation.ctx
        task_id = submit_job(ctx, a_job(SUBTASKS)).task_id
        yield _detail(asked, task_id)
        _make_tasks(ctx, task_id)
        yield _list(asked)


def _detail(asked: Asked, task_id: int) -> Result:
    def ask() -> None:
        assert len(asked.get(f"{PATH}/{task_id}")["subtasks"]) == SUBTASKS

    seconds, cpu = timed(asked, ask, REQUESTS)
    return Result(DETAIL, 1000 * percentile(seconds, 0.99), {"cpu": cpu, **spread(seconds, 1000)})


def _list(asked: Asked) -> Result:
    by_query, cpu_by_query = {}, {}
    for query in LISTS:

        def ask(query: str = query) -> None:
            assert asked.get(PATH + query)["contents"]

        by_query[query], cpu_by_query[query] = timed(asked, ask, REQUESTS // len(LISTS))
    seconds = list(itertools.chain(*by_query.values()))
    seen: dict[str, Any] = spread(seconds, 1000)
    seen["median_by_query"] = {q: spread(s, 1000)["median"] for q, s in by_query.items()}
    seen["cpu_by_query"] = cpu_by_query
    return Result(LIST, 1000 * percentile(seconds, 0.99), seen)


def _make_tasks(ctx: Context, task_id: int) -> None:
    """Make tasks until there are so many, each with a job, a subscription and a subtask."""
    with transaction(ctx.engine) as session:
        task = session.get_one(Task, task_id)
        subtask = session.scalars(select(Subtask).where(Subtask.task_id == task_id)).first()
        assert subtask
        first = {t: _next_id(session, t) for t in (Subscription, Job, Task, Subtask)}
        sources = {
            Subscription: _values(session.get_one(Subscription, task.subscription_id)),
            Job: _values(session.get_one(Job, task.job_id)),
            Task: _values(task),
            Subtask: _values(subtask),
        }
        states = list(TaskStatus)
        for numbers in chunks(range(TASKS - task_id), 5000):
            ids = {n: {t: start + n for t, start in first.items()} for n in numbers}
            for table, source in sources.items():
                rows = [_row(table, source, n, ids[n], states[n % len(states)]) for n in numbers]
                session.execute(insert(table), rows)


def _next_id(session: Any, table: type[Any]) -> int:
    return int(session.scalar(select(func.max(table.id))) or 0) + 1


def _values(row: Base) -> dict[str, Any]:
    table = row.__table__
    assert isinstance(table, Table)
    skipped = {"log_blob"}
    return {c.key: getattr(row, c.key) for c in table.columns if c.key not in skipped}


def _row(
    table: type[Any],
    source: Mapping[str, Any],
    number: int,
    ids: Mapping[type[Any], int],
    status: TaskStatus,
) -> dict[str, Any]:
    row = {**source, "id": ids[table]}
    if "created_at" in row:
        row["created_at"] = now() - timedelta(seconds=number)
    for name, other in (("subscription_id", Subscription), ("job_id", Job), ("task_id", Task)):
        if name in row:
            row[name] = ids[other]
    if table is Task:
        row |= {"name": f"{source['name']} {number}", "status": status}
    if table is Subtask:
        row["live_run_id"] = None
    return row


BENCHES = (Bench("graphs", (DETAIL, LIST), measure),)
