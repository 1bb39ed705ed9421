"""Who may, and what is written down about it."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from app.jobs.context import Context
from app.models.access import Audit, Credential
from app.models.base import reading
from app.models.fleet import Host
from app.models.work import Job
from tests.api.conftest import SECRET, Call, a_call, a_row, header, read
from tests.api.given import submit
from tests.jobs.conftest import a_host


def audits(ctx: Context) -> list[Audit]:
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Audit).order_by(Audit.id)))


def jobs(ctx: Context) -> list[Job]:
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Job)))


def test_a_change_leaves_a_row_that_says_who_what_where_and_how_it_ended(
    ctx: Context, call: Call
) -> None:
    call("/api/job/install/", a_call(), headers={**header(), "X-Request-Id": "abc.1"})

    (row,) = audits(ctx)
    assert (row.caller, row.acting_for, row.caller_kind) == ("flows", "alice", "app")
    assert (row.action, row.target, row.outcome) == ("job/install", "job 1", "done")
    assert row.source_ip == "127.0.0.1"
    assert row.details["job_type"] == "INSTALL_AGENT"
    assert row.details["request_id"] == "abc.1"


@pytest.mark.parametrize(
    ("code", "body"), [("reader", a_call()), ("flows", {"job_type": "x", "hosts": []})]
)
def test_a_refused_change_leaves_a_row_too(
    ctx: Context, call: Call, code: str, body: dict[str, Any]
) -> None:
    assert not call("/api/job/install/", body, code=code)["result"]

    (row,) = audits(ctx)
    assert (row.caller, row.outcome) == (code, "refused")
    assert not jobs(ctx)


def test_a_call_by_a_stranger_leaves_no_row(ctx: Context, client: FlaskClient) -> None:
    client.post("/api/job/install/", json=a_call(), headers=header(secret="wrong" * 5))

    assert not audits(ctx)


def test_a_name_in_raw_utf_8_is_read_as_it_was_sent(ctx: Context, call: Call) -> None:
    who = json.loads(header()["X-Bkapi-Authorization"]) | {"bk_username": "张三"}
    raw = json.dumps(who, ensure_ascii=False).encode().decode("latin-1")

    call("/api/job/install/", a_call(), headers={"X-Bkapi-Authorization": raw})

    (row,) = audits(ctx)
    assert row.acting_for == "张三"


@pytest.mark.parametrize("name", ["bk_username", "bk_app_code", "bk_app_secret"])
@pytest.mark.parametrize("half", ["a\x00b", "\ud800"])
def test_a_name_that_is_no_text_is_refused(ctx: Context, call: Call, name: str, half: str) -> None:
    who = json.loads(header()["X-Bkapi-Authorization"]) | {name: half}

    said = call("/api/job/install/", a_call(), headers={"X-Bkapi-Authorization": json.dumps(who)})

    assert said["code"] == 3800001
    assert said["message"].startswith(f"{name} holds a NUL character or half a surrogate pair")
    assert not jobs(ctx)


def test_looking_leaves_no_row(ctx: Context, call: Call) -> None:
    call("/api/job/job_list/")

    assert not audits(ctx)


def test_no_secret_reaches_the_audit(ctx: Context, call: Call) -> None:
    call("/api/job/install/", a_call(a_row(password="s3cr3t-canary")))
    call("/api/host/update_single/", {"bk_host_id": 1, "password": "s3cr3t-canary"})
    call("/api/job/1/retry/", {"hosts": [{"bk_host_id": 1, "password": "s3cr3t-canary"}]})

    written = repr([(row.target, row.details) for row in audits(ctx)])
    assert len(audits(ctx)) == 3
    assert "s3cr3t-canary" not in written
    assert SECRET not in written


def test_the_name_of_the_user_is_on_the_job(ctx: Context, call: Call) -> None:
    call("/api/job/install/", a_call(), headers=header(user="bob"))

    assert [job.created_by for job in jobs(ctx)] == ["bob"]


def test_a_scoped_caller_sees_and_touches_only_its_businesses(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0)])
    submit(ctx, [a_host(1, business_id=3)])

    seen = call("/api/job/job_list/", code="scoped")["data"]
    hosts = call("/api/host/search/", code="scoped")["data"]

    assert [job["id"] for job in seen["list"]] == [1]
    assert [host["bk_host_id"] for host in hosts["list"]] == [1]
    operate = {"job_type": "REMOVE_AGENT", "bk_host_id": [2]}
    for path, body, action in (
        ("/api/job/2/details/", {}, "task_history_view"),
        ("/api/job/2/retry/", {}, "task_history_view"),
        ("/api/job/2/revoke/", {}, "task_history_view"),
        ("/subscription_task_result/", {"subscription_id": 2}, "task_history_view"),
        ("/api/job/operate/", operate, "agent_operate"),
        ("/remove_host/", {"bk_host_id": [2]}, "agent_operate"),
    ):
        denied = call(path, body, code="scoped")
        assert denied["code"] == 9900403
        assert [a["id"] for a in denied["data"]["permission"]["actions"]] == [action]


def test_a_scoped_caller_edits_only_hosts_of_its_businesses(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0), a_host(1, business_id=3)])

    codes = [
        call("/api/host/update_single/", {"bk_host_id": n, "port": 2222}, code="scoped")["code"]
        for n in (1, 2, 3)
    ]

    assert codes == [0, 3801022, 3801010]
    with reading(ctx.engine) as session:
        assert session.scalars(select(Host.port).order_by(Host.id)).all() == [2222, 22]


def test_who_only_looks_may_edit_no_host(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0)])

    said = call("/api/host/update_single/", {"bk_host_id": 1, "port": 2222}, code="reader")

    assert said["code"] == 9900403


def test_everything_means_everything_the_caller_may_see(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0)])
    submit(ctx, [a_host(1, business_id=3)])

    said = call(
        "/api/job/operate/", {"job_type": "REMOVE_AGENT", "exclude_hosts": []}, code="scoped"
    )

    assert said["result"]
    with reading(ctx.engine) as session:
        gone = session.scalars(select(Host.id).where(Host.is_forgotten)).all()
    assert gone == [1]


def test_a_repeated_request_with_a_key_is_the_same_request(ctx: Context, call: Call) -> None:
    headers = {**header(), "Idempotency-Key": "k1"}

    first = call("/api/job/install/", a_call(), headers=headers)
    again = call("/api/job/install/", a_call(a_row(password="encrypted anew")), headers=headers)
    other = call("/api/job/install/", a_call(a_row(2)), headers=headers)

    assert first["data"] == again["data"]
    assert other["code"] == 3800001
    assert "Idempotency-Key" in other["message"]
    assert len(jobs(ctx)) == 1


def test_two_callers_may_use_the_same_key(ctx: Context, call: Call) -> None:
    for code in ("flows", "boss"):
        said = call(
            "/api/job/install/",
            a_call(a_row(1 if code == "flows" else 2)),
            headers={**header(code), "Idempotency-Key": "k1"},
        )
        assert said["result"]

    assert len(jobs(ctx)) == 2


@pytest.mark.parametrize("key", ["x" * 129, "tab\tbed"])
def test_a_key_nobody_can_keep_is_refused(call: Call, key: str) -> None:
    said = call("/api/job/install/", a_call(), headers={**header(), "Idempotency-Key": key})

    assert said["code"] == 3800001
    assert "Idempotency-Key" in said["message"]


def test_a_request_has_a_name(client: FlaskClient) -> None:
    given = client.get("/healthz", headers={"X-Request-Id": "mine-1"})
    made = client.get("/healthz", headers={"X-Request-Id": "bad\tname; drop"})

    assert given.headers["X-Request-Id"] == "mine-1"
    assert len(made.headers["X-Request-Id"]) == 16


def test_a_new_login_is_kept_sealed(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0)])

    call("/api/host/update_single/", {"bk_host_id": 1, "port": 2222, "password": "an0ther one"})

    with reading(ctx.engine) as session:
        newest = session.scalars(select(Credential).order_by(Credential.id.desc())).first()
    assert newest is not None
    assert newest.port == 2222
    assert newest.secret is not None
    assert b"an0ther one" not in newest.secret


def test_a_secret_encrypted_with_our_key_opens(ctx: Context, client: FlaskClient) -> None:
    import base64

    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    (key,) = read(
        client.post("/core/api/encrypt_rsa/fetch_public_keys/", json={}, headers=header())
    )["data"]
    public = load_pem_public_key(key["content"].encode())
    sealed = public.encrypt(b"correct horse", PKCS1v15())  # type: ignore[union-attr]
    text = base64.b64encode(b"DEFAULT").decode() + base64.b64encode(sealed).decode()

    said = read(
        client.post("/api/job/install/", json=a_call(a_row(password=text)), headers=header())
    )

    assert said["result"], said
    from app.access.credentials import usable_logins
    from app.models.base import now

    with reading(ctx.engine) as session:
        assert usable_logins(session, ctx.vault, [1], now())[1].password == "correct horse"


def test_a_denial_is_told_where_every_client_looks(call: Call) -> None:
    assert call("/api/job/install/", a_call())["result"]

    said = call(
        "/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1]}, code="reader"
    )

    assert said["code"] == 9900403
    assert said["permission"] == said["data"]["permission"]
    assert said["permission"]["actions"][0]["id"] == "agent_operate"


def test_removing_no_hosts_is_refused(call: Call) -> None:
    said = call("/api/host/remove_host/", {"bk_biz_id": [2], "bk_host_id": [], "is_proxy": False})

    assert said["code"] == 3800001
    assert "bk_host_id is empty" in said["message"]
