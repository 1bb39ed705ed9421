"""What people see in the console, what each role may do there, and what is kept out."""

import html
import re

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from app.access.audit import record
from app.access.users import MOST_FAILURES, SIGN_IN
from app.domain.states import Status
from app.jobs.context import Context
from app.jobs.job_queries import get_job
from app.models.access import Audit
from app.models.base import reading, transaction
from tests.console.conftest import HEADERS, PASSWORD, SignIn, Submit


def csrf_of(client: FlaskClient, path: str = "/jobs/") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


def post(client: FlaskClient, path: str, **form: str) -> int:
    return client.post(path, data={"csrf_token": csrf_of(client), **form}).status_code


# --- Signing in ---------------------------------------------------------------------------------


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_back(web: Flask) -> None:
    client = web.test_client()
    answer = client.get("/jobs/?status=failed")
    assert answer.status_code == 302
    assert answer.location == "/login?next=/jobs/?status%3Dfailed"
    form = {"username": "ada", "password": PASSWORD, "next": "/jobs/?status=failed"}
    assert client.post("/login", data=form, headers=HEADERS).location == "/jobs/?status=failed"


def test_the_cookie_is_kept_from_scripts_and_foreign_sites(web: Flask) -> None:
    form = {"username": "ada", "password": PASSWORD}
    answer = web.test_client().post("/login", data=form, headers=HEADERS)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_sign_in_leads_nowhere_else(web: Flask) -> None:
    for target in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x"):
        form = {"username": "ada", "password": PASSWORD, "next": target}
        answer = web.test_client().post("/login", data=form, headers=HEADERS)
        assert answer.location == "/jobs/"


def test_a_name_that_is_no_text_is_refused(web: Flask) -> None:
    form = {"username": "a\x00b", "password": "guess"}
    answer = web.test_client().post("/login", data=form, headers=HEADERS)
    assert answer.status_code == 400
    assert "holds a NUL character" in answer.text


def test_a_wrong_password_is_refused(web: Flask) -> None:
    wrong = {"username": "vic", "password": "guess"}
    answer = web.test_client().post("/login", data=wrong, headers=HEADERS)
    assert answer.status_code == 401
    assert "The user name or the password is wrong." in answer.text


def test_guessing_locks_even_the_right_password_out(ctx: Context, web: Flask) -> None:
    with transaction(ctx.engine) as session:
        for _ in range(MOST_FAILURES):
            record(session, None, SIGN_IN, "vic", "127.0.0.1", "failed")
    right = {"username": "vic", "password": PASSWORD}
    answer = web.test_client().post("/login", data=right, headers=HEADERS)
    assert answer.status_code == 401
    assert "Too many failed attempts" in answer.text


def test_a_sign_in_form_from_elsewhere_is_refused(web: Flask) -> None:
    form = {"username": "ada", "password": PASSWORD}
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        assert web.test_client().post("/login", data=form, headers=headers).status_code == 403


def test_signing_out_ends_the_session_here_and_in_the_database(sign_in: SignIn) -> None:
    client = sign_in("ada")
    cookie = client.get_cookie("hostler_session")
    assert cookie
    assert post(client, "/logout") == 302
    client.set_cookie("hostler_session", cookie.value)
    assert client.get("/jobs/").status_code == 302


# --- Looking ------------------------------------------------------------------------------------


def test_a_job_shows_every_host_with_cause_and_advice(sign_in: SignIn, submit: Submit) -> None:
    page = sign_in("vic").get(f"/jobs/{submit(3, failed=1)}/").text
    rows = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)[1:]
    assert len(rows) == 3
    assert "10.0.0.1" in rows[0]
    assert "login not accepted" in rows[0]
    assert "Send the right password." in rows[0]


def test_what_a_host_said_is_text(sign_in: SignIn, submit: Submit) -> None:
    said = '<script>alert("x")</script>'
    job_id = submit(1, failed=1, reason=said)
    client = sign_in("ada")
    for path in (f"/jobs/{job_id}/", f"/jobs/{job_id}/host/?instance_id=host|instance|host|1"):
        page = client.get(path).text
        assert said not in page
        assert str(html.escape(said)).replace("&quot;", "&#34;") in page


def test_the_pages_speak_chinese_when_asked(sign_in: SignIn, submit: Submit) -> None:
    path = f"/jobs/{submit(1, failed=1)}/"
    page = sign_in("ada").get(path, headers={"blueking-language": "zh-cn"}).text
    assert "登录失败" in page
    assert "重试失败主机" in page
    assert '<html lang="zh">' in page


def test_hosts_come_in_pages_and_by_status(sign_in: SignIn, submit: Submit) -> None:
    job_id, client = submit(120, failed=2), sign_in("ada")
    first, second = (client.get(f"/jobs/{job_id}/?page={page}").text for page in (1, 2))
    assert first.count('class="host"') == 100
    assert second.count('class="host"') == 20
    assert client.get(f"/jobs/{job_id}/?status=failed").text.count('class="host"') == 2
    assert client.get(f"/jobs/{job_id}/?status=evil&page=-5").status_code == 200


def test_what_stands_in_the_address_does_not_steer_the_links(
    sign_in: SignIn, submit: Submit
) -> None:
    asked = "_scheme=javascript&_external=1&_anchor=x&endpoint=y&job_id=7&status=pending"
    page = sign_in("ada").get(f"/jobs/{submit(120)}/?{asked}").text
    links = re.findall(r'href="([^"]+)"', page)
    assert "/jobs/1/?status=pending&amp;page=2" in links
    assert all(link.startswith(("/", "#", "data:,")) for link in links)


def test_jobs_of_other_businesses_are_not_shown(sign_in: SignIn, submit: Submit) -> None:
    job_id, client = submit(1), sign_in("ben")
    assert f"/jobs/{job_id}/" not in client.get("/jobs/").text
    assert client.get(f"/jobs/{job_id}/").status_code == 403
    assert post(client, f"/jobs/{job_id}/revoke") == 403


def test_an_unknown_job_is_said_to_be_unknown(sign_in: SignIn) -> None:
    answer = sign_in("ada").get("/jobs/999/")
    assert answer.status_code == 404
    assert "There is no job 999." in answer.text


def test_pages_allow_no_foreign_script_and_no_framing(sign_in: SignIn) -> None:
    policy = sign_in("ada").get("/jobs/").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


# --- Doing --------------------------------------------------------------------------------------


def test_an_operator_retries_what_failed(ctx: Context, sign_in: SignIn, submit: Submit) -> None:
    job_id = submit(2, failed=2)
    assert post(sign_in("olga"), f"/jobs/{job_id}/retry") == 302
    assert not get_job(ctx, job_id).status.is_final
    with reading(ctx.engine) as session:
        row = session.scalars(select(Audit).where(Audit.action == "job.retry")).one()
    assert (row.caller, row.outcome, row.target) == ("olga", "done", f"job {job_id}")


def test_one_host_is_retried_or_stopped_alone(
    ctx: Context, sign_in: SignIn, submit: Submit
) -> None:
    job_id, client = submit(3, failed=2), sign_in("olga")
    assert post(client, f"/jobs/{job_id}/retry", instance_id="host|instance|host|1") == 302
    counts = {status.value: n for status, n in get_job(ctx, job_id).counts.items() if n}
    assert counts == {"failed": 1, "pending": 2}
    assert post(client, f"/jobs/{job_id}/revoke", instance_id="host|instance|host|3") == 302
    counts = {status.value: n for status, n in get_job(ctx, job_id).counts.items() if n}
    assert counts == {"failed": 2, "pending": 1}


def test_nothing_to_retry_is_said_in_a_sentence(sign_in: SignIn, submit: Submit) -> None:
    client, job_id = sign_in("olga"), submit(1)
    answer = client.post(f"/jobs/{job_id}/retry", data={"csrf_token": csrf_of(client)})
    assert answer.status_code == 409
    assert "This did not work" in answer.text


def test_a_viewer_may_only_look(ctx: Context, sign_in: SignIn, submit: Submit) -> None:
    job_id, client = submit(2, failed=1), sign_in("vic")
    assert f"/jobs/{job_id}/retry" not in client.get(f"/jobs/{job_id}/").text
    assert post(client, f"/jobs/{job_id}/retry") == 403
    assert post(client, f"/jobs/{job_id}/revoke") == 403
    with reading(ctx.engine) as session:
        outcomes = session.scalars(select(Audit.outcome).where(Audit.caller == "vic")).all()
    assert outcomes == ["done", "refused", "refused"]


def test_a_form_without_the_sessions_token_changes_nothing(
    ctx: Context, sign_in: SignIn, submit: Submit
) -> None:
    job_id, client = submit(1, failed=1), sign_in("ada")
    stolen = csrf_of(sign_in("ada"))
    for form in ({}, {"csrf_token": "x"}, {"csrf_token": stolen}):
        assert client.post(f"/jobs/{job_id}/retry", data=form).status_code == 403
    assert get_job(ctx, job_id).counts[Status.FAILED] == 1
