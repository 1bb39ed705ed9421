"""A person with a real browser signs in, watches a job, and tries its failed host again."""

import threading
from collections.abc import Iterator

import pytest
from flask import Flask
from werkzeug.serving import make_server

from app.domain.states import Status
from app.jobs.context import Context
from app.jobs.job_queries import get_job
from tests.console.browser import Browser, find_browser
from tests.console.conftest import PASSWORD, Submit, fail

pytestmark = pytest.mark.slow


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium here (apt-get install chromium)")
    with Browser(program) as browser:
        yield browser


@pytest.fixture
def site(web: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, web, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_watching_and_retrying(ctx: Context, site: str, browser: Browser, submit: Submit) -> None:
    job_id = submit(3)
    browser.open(f"{site}/jobs/{job_id}/")
    browser.type("#username", "olga")
    browser.type("#password", PASSWORD)
    browser.click("button.main")
    browser.until(f"location.pathname == '/jobs/{job_id}/' && document.querySelector('td')")

    fail(ctx, task_id=1, count=1, reason="<b>Send the right password.</b>")
    # the page keeps itself true without being loaded again
    browser.until_shown("<b>Send the right password.</b>")

    browser.click("td button")
    browser.until("document.body?.innerText.includes('Send the right password') === false")
    assert get_job(ctx, job_id).counts[Status.FAILED] == 0
    assert browser.problems == []


def test_a_narrow_screen_needs_no_sideways_scrolling(
    site: str, browser: Browser, submit: Submit
) -> None:
    job_id = submit(3, failed=2, reason="x" * 300)
    browser.resize(390, 844)
    browser.open(f"{site}/jobs/{job_id}/")
    browser.type("#username", "olga")
    browser.type("#password", PASSWORD)
    browser.click("button.main")
    browser.until("document.readyState == 'complete' && document.querySelector('td')")
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_queues_dashboard_works_in_a_browser(ctx: Context, site: str, browser: Browser) -> None:
    ctx.queue.connection.flushall()
    assert ctx.queue.send([7])
    browser.open(f"{site}/rq")
    browser.type("#username", "vic")
    browser.type("#password", PASSWORD)
    browser.click("button.main")
    browser.until_shown("hostler")
    browser.open(f"{site}/rq/0/view/job/{ctx.queue.rq_name(7)}")
    browser.until_shown("run 7")
    assert browser.problems == []


def test_the_queues_dashboard_shows_markup_from_redis_as_text(
    ctx: Context, site: str, browser: Browser
) -> None:
    ctx.queue.connection.flushall()
    ctx.queue.send([7])
    job = ctx.queue.rq.fetch_job(ctx.queue.rq_name(7))
    assert job
    job.description = "<img src=x onerror=document.title='evil'>"
    job.save()
    browser.open(f"{site}/rq/0/view/job/{ctx.queue.rq_name(7)}")
    browser.type("#username", "ada")
    browser.type("#password", PASSWORD)
    browser.click("button.main")
    browser.until_shown("onerror=document.title")
    assert browser.run("document.title") == "RQ dashboard"
    browser.open(f"{site}/rq/0/view/jobs/{ctx.queue.name}/queued/8/asc/1")
    browser.until_shown("<img src=x onerror=document.title='evil'>")
    assert browser.run("document.title") == "RQ dashboard"
