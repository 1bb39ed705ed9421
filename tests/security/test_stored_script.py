"""What hosts and Redis hold is text in every page, whoever looks at it."""

import re
import zlib
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from rq.job import Job
from rq.results import Result

from app import worker
from app.jobs.context import Context
from tests.console.conftest import (  # noqa: F401 - its fixtures
    SignIn,
    ctx,
    prepared,
    redis_url,
    sign_in,
    web,
)

SCRIPT = "</pre><img src=x onerror=document.title='evil'><script>document.title='evil'</script>"
PAGES = ("/rq/", "/rq/0/view/workers", "/rq/0/view/jobs", "/rq/0/view/job/run-7")
OPEN_PAGES = (
    *("/docs", "/docs/", "/openapi.json", "/docs/docs.js", "/login"),
    *("/nope", "/docs/nope", "/healthz", "/api/job/1/details/", "/api/v2/tasks/nope"),
)


@pytest.fixture
def failed(ctx: Context) -> Iterator[Job]:  # noqa: F811
    """A run in Redis with markup wherever there can be any."""
    ctx.queue.connection.flushall()
    ctx.queue.send([7])
    job = ctx.queue.rq.fetch_job(ctx.queue.rq_name(7))
    assert job
    job.description = SCRIPT
    job.meta = {"x": SCRIPT}
    job.save()
    Result.create_failure(job, 500, SCRIPT)
    ctx.queue.rq.failed_job_registry.add(job, 500, exc_string=SCRIPT)
    yield job
    ctx.queue.connection.flushall()


def directives(client: FlaskClient, path: str) -> dict[str, str]:
    with client.get(path) as answer:
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in policy.split(";"))


@pytest.mark.parametrize("path", PAGES)
def test_the_dashboard_puts_text_into_its_pages_and_no_markup(
    sign_in: SignIn,  # noqa: F811
    failed: Job,
    path: str,
) -> None:
    page = sign_in("ada").get(path.replace("run-7", failed.id)).text

    assert "<%-" in page
    assert "<%=" not in page
    assert ".text(d." not in page, "nothing is escaped twice"


@pytest.mark.parametrize("path", PAGES)
def test_only_the_dashboards_own_scripts_run(
    sign_in: SignIn,  # noqa: F811
    failed: Job,
    path: str,
) -> None:
    client, path = sign_in("ada"), path.replace("run-7", failed.id)
    answer = client.get(path)
    policy = answer.headers["Content-Security-Policy"]

    scripts = re.findall(r"<script(?! src| name)([^>]*)>", answer.text)
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", policy))
    assert scripts
    assert all(f'nonce="{nonce}"' in script for script in scripts)
    assert "'unsafe-inline'" not in directives(client, path)["script-src"]
    assert nonce not in client.get(path).headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", [*OPEN_PAGES, "/rq/", "/rq/0/data/job/run-7.json"])
def test_every_page_has_a_policy_and_stands_in_no_frame(
    web: Flask,  # noqa: F811
    failed: Job,
    path: str,
) -> None:
    policy = directives(web.test_client(), path.replace("run-7", failed.id))

    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"


def test_redis_keeps_where_a_run_failed_and_no_word_of_what_was_said(
    ctx: Context,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        try:
            raise KeyError(SCRIPT)
        except KeyError as error:
            raise ValueError(f"{SCRIPT}\x1b[2J") from error

    monkeypatch.setattr(worker, "execute_run", fail)
    monkeypatch.setattr(worker, "_context", ctx)
    ctx.queue.connection.flushall()
    ctx.queue.send([7])
    queue, redis = ctx.queue.rq, ctx.queue.connection
    job = queue.fetch_job(ctx.queue.rq_name(7))
    assert job
    horse = worker.HostlerWorker([queue], connection=redis, serializer=queue.serializer)
    horse.prepare_execution(job)

    horse.perform_job(job, queue)

    result = job.latest_result()
    assert result
    assert result.exc_string.startswith("ValueError: ")
    assert "after KeyError: " in result.exc_string
    assert "onerror" not in result.exc_string
    everything = b"".join(map(str.encode, map(str, redis_content(redis))))
    assert b"onerror" not in everything
    told = capsys.readouterr()
    assert "\x1b[2J" not in told.out + told.err


def redis_content(redis: Redis) -> Iterator[object]:
    """All that is in Redis."""
    for key in redis.scan_iter():
        yield key
        match redis.type(key):
            case b"string":
                yield redis.get(key)
            case b"hash":
                for value in redis.hgetall(key).values():
                    yield zlib.decompress(value) if value[:1] == b"x" else value
            case b"stream":
                yield redis.xrange(key)
            case b"list":
                yield redis.lrange(key, 0, -1)
            case b"zset":
                yield redis.zrange(key, 0, -1)
