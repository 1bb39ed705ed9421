"""Whoever can write to Redis runs nothing of his own, and two installations share one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rq.job import Job

from app.jobs.context import Context, open_context
from app.queue import Forged, WorkQueue
from app.settings import Settings
from tests.api.given import submit
from tests.jobs.conftest import a_host, prepare

Send = Callable[..., Job]


@pytest.fixture
def send(ctx: Context) -> Send:
    """Write a job into our queue as somebody else would."""

    def write(function: str, *arguments: object, **more: object) -> Job:
        job = Job.create(
            function,
            args=arguments,
            kwargs=more.pop("kwargs", {}),
            id=more.pop("id", "run-1"),
            connection=ctx.queue.connection,
            serializer=ctx.queue.rq.serializer,
            **more,  # type: ignore[arg-type]
        )
        job.save()
        return Job.fetch(job.id, ctx.queue.connection, ctx.queue.rq.serializer)

    return write


def test_a_run_of_ours_is_read(ctx: Context) -> None:
    submit(ctx, [a_host(0)])
    [name] = ctx.queue.rq.get_job_ids()

    job = Job.fetch(name, ctx.queue.connection, ctx.queue.rq.serializer)

    assert ctx.queue.read_run(job) == 1
    assert name == f"{ctx.queue.name}-run-1"


def test_a_job_that_names_another_function_is_forged(ctx: Context, send: Send) -> None:
    name = ctx.queue.rq_name(1)
    with pytest.raises(Forged):
        ctx.queue.read_run(send("os.system", "id", id=name))
    with pytest.raises(Forged):
        ctx.queue.read_run(send("app.worker.execute", 1, id=name))
    with pytest.raises(Forged):
        ctx.queue.read_run(send("app.worker.execute", id=name, kwargs={"run_id": "1"}))
    with pytest.raises(Forged):
        ctx.queue.read_run(send("app.worker.execute", id="run-1", kwargs={"run_id": 1}))


def test_our_function_with_somebody_elses_callback_is_forged(ctx: Context, send: Send) -> None:
    name = ctx.queue.rq_name(1)
    send("app.worker.execute", id=name, kwargs={"run_id": 1})
    ctx.queue.connection.hset(Job.key_for(name), "success_callback_name", "os.system")

    with pytest.raises(Forged):
        ctx.queue.read_run(Job.fetch(name, ctx.queue.connection, ctx.queue.rq.serializer))


def test_what_is_no_call_at_all_is_forged(ctx: Context, send: Send) -> None:
    name = ctx.queue.rq_name(1)
    send("app.worker.execute", id=name, kwargs={"run_id": 1})
    for data in (b"\x80\x04cos\nsystem\n", b"[]", b"{", b'["app.worker.execute", null]'):
        ctx.queue.connection.hset(Job.key_for(name), "data", data)
        with pytest.raises(Forged):
            ctx.queue.read_run(Job.fetch(name, ctx.queue.connection, ctx.queue.rq.serializer))


def test_two_installations_share_a_redis_and_not_their_runs(ctx: Context, tmp_path: Path) -> None:
    other_folder = prepare(tmp_path / "other")
    other = open_context(Settings(data_dir=other_folder, redis_url=ctx.settings.redis_url))
    for each in (ctx, other):
        submit(each, [a_host(0)])

    assert ctx.queue.name != other.queue.name
    assert len(ctx.queue.rq.get_job_ids()) == len(other.queue.rq.get_job_ids()) == 1
    job = Job.fetch(other.queue.rq_name(1), ctx.queue.connection, ctx.queue.rq.serializer)
    with pytest.raises(Forged):
        ctx.queue.read_run(job)
    other.engine.dispose()


def test_a_queue_without_an_installation_has_a_plain_name() -> None:
    assert WorkQueue("unix:///nowhere").name == "hostler"
