"""rq-dashboard: behind the sign-in, readable, and changed by administrators only."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from rq.job import Job

from app.jobs.context import Context
from tests.console.conftest import HEADERS, SignIn

LOOKS = (
    "/rq/",
    "/rq/0/view/workers",
    "/rq/0/view/jobs",
    "/rq/0/view/job/run-7",
    "/rq/0/data/queues.json",
    "/rq/0/data/workers.json",
    "/rq/0/data/jobs/hostler/queued/8/asc/1.json",
    "/rq/0/data/job/run-7.json",
)


@pytest.fixture
def queued(ctx: Context) -> Job:
    ctx.queue.connection.flushall()
    assert ctx.queue.send([7])
    job = ctx.queue.rq.fetch_job(ctx.queue.rq_name(7))
    assert job
    return job


@pytest.mark.parametrize("path", LOOKS)
def test_nobody_looks_without_signing_in(web: Flask, path: str, queued: Job) -> None:
    answer = web.test_client().get(path)
    assert answer.status_code == 302
    assert answer.location.startswith("/login?next=/rq/")


@pytest.mark.parametrize("path", LOOKS)
def test_a_viewer_looks_at_everything(sign_in: SignIn, path: str, queued: Job) -> None:
    assert sign_in("vic").get(path.replace("run-7", queued.id)).status_code == 200


def test_the_address_works_without_its_slash(sign_in: SignIn) -> None:
    assert sign_in("vic").get("/rq", follow_redirects=True).status_code == 200


def test_a_run_is_shown_by_its_number_and_nothing_else(sign_in: SignIn, queued: Job) -> None:
    shown = sign_in("vic").get(f"/rq/0/data/job/{queued.id}.json").json
    assert shown
    assert shown["description"] == "run 7"
    assert shown["status"] == "queued"


def changes(client: FlaskClient, headers: dict[str, str]) -> list[int]:
    paths = ("/rq/job/run-7/delete", "/rq/requeue/hostler", "/rq/queue/hostler/queued/empty")
    return [client.post(path, headers=headers).status_code for path in paths]


@pytest.mark.parametrize("name", ["vic", "olga"])
def test_only_an_administrator_changes_the_queue(
    ctx: Context, sign_in: SignIn, queued: Job, name: str
) -> None:
    assert changes(sign_in(name), HEADERS) == [403, 403, 403]
    assert ctx.queue.rq.count == 1


def test_an_administrator_empties_the_queue(ctx: Context, sign_in: SignIn, queued: Job) -> None:
    answer = sign_in("ada").post(f"/rq/queue/{ctx.queue.name}/queued/empty", headers=HEADERS)
    assert answer.status_code == 200
    assert ctx.queue.rq.count == 0


def test_a_foreign_page_cannot_make_an_administrator_change_it(
    ctx: Context, sign_in: SignIn, queued: Job
) -> None:
    client = sign_in("ada")
    assert changes(client, {"Origin": "http://evil.example"}) == [403, 403, 403]
    assert changes(client, {}) == [403, 403, 403]
    assert client.get("/rq/requeue/hostler").status_code == 405
    assert ctx.queue.rq.count == 1


def test_a_failed_run_is_shown_and_can_be_tried_again(
    ctx: Context, sign_in: SignIn, queued: Job
) -> None:
    ctx.queue.rq.remove(queued)
    ctx.queue.rq.failed_job_registry.add(queued, exc_string="the horse died")
    client = sign_in("ada")
    listed = client.get(f"/rq/0/data/jobs/{ctx.queue.name}/failed/8/asc/1.json").json
    assert listed
    assert [job["id"] for job in listed["jobs"]] == [ctx.queue.rq_name(7)]
    assert client.post(f"/rq/job/{queued.id}/requeue", headers=HEADERS).status_code == 200
    again = ctx.queue.rq.fetch_job(ctx.queue.rq_name(7))
    assert again
    assert again.kwargs == {"run_id": 7}
