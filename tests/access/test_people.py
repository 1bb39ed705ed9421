"""Who calls, how they prove it, what they may do, and what is written down."""

import base64
import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.access import apps, users
from app.access.access_keys import (
    authenticate_signature,
    create_access_key,
    list_access_keys,
    remove_access_key,
)
from app.access.audit import record
from app.access.caller import Caller, Role, change_rights, require
from app.access.passwords import SuccessCache, hash_password, is_password
from app.access.signature import (
    SignedRequest,
    is_recent,
    is_signed,
    read_authorization,
    sign,
    string_to_sign,
)
from app.access.vault import Vault
from app.access.web_sessions import (
    close_session,
    csrf_token,
    delete_ended_sessions,
    is_csrf_token,
    open_session,
    session_caller,
)
from app.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated
from app.models.access import App, Audit, User
from app.models.base import reading, transaction

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


# --- Programs


def test_a_program_signs_in_with_its_secret(session: Session) -> None:
    secret = apps.create_app(session, "cmdb", "operator", [2, 7])
    caller = apps.authenticate_app(session, "cmdb", secret, acting_for="ann")
    assert caller == Caller(
        name="cmdb",
        role=Role.OPERATOR,
        businesses=frozenset({2, 7}),
        kind="app",
        acting_for="ann",
    )
    assert caller.actor == "ann"
    assert apps.authenticate_app(session, "cmdb", secret).actor == "cmdb"
    assert (
        session.scalars(select(App)).one().secret_hash
        == hashlib.sha256(secret.encode()).hexdigest()
    )


@pytest.mark.parametrize("secret", ["", "wrong", "\ud800", "x" * 10_000])
def test_a_wrong_secret_and_an_unknown_program_sound_alike(session: Session, secret: str) -> None:
    apps.create_app(session, "cmdb")
    for code in ("cmdb", "nobody", ""):
        with pytest.raises(Unauthenticated, match=apps.WRONG):
            apps.authenticate_app(session, code, secret)


def test_a_program_can_be_changed_renewed_switched_off_and_removed(session: Session) -> None:
    first = apps.create_app(session, "cmdb", secret="a-secret-of-our-own")
    assert first == "a-secret-of-our-own"
    second = apps.renew_app_secret(session, "cmdb")
    with pytest.raises(Unauthenticated):
        apps.authenticate_app(session, "cmdb", first)
    change_rights(apps.find_app(session, "cmdb"), role="viewer", businesses=[3])
    assert apps.authenticate_app(session, "cmdb", second).businesses == frozenset({3})
    change_rights(apps.find_app(session, "cmdb"), all_businesses=True, is_active=False)
    with pytest.raises(Unauthenticated):
        apps.authenticate_app(session, "cmdb", second)
    assert [(app.code, app.role, app.businesses) for app in apps.list_apps(session)] == [
        ("cmdb", "viewer", None)
    ]
    apps.remove_app(session, "cmdb")
    with pytest.raises(NotFound):
        apps.remove_app(session, "cmdb")


def test_what_makes_no_sense_is_refused(session: Session) -> None:
    apps.create_app(session, "cmdb")
    with pytest.raises(Conflict):
        apps.create_app(session, "cmdb")
    with pytest.raises(InvalidRequest, match="role"):
        apps.create_app(session, "other", "king")
    with pytest.raises(InvalidRequest, match="16 characters"):
        apps.create_app(session, "other", secret="short")
    with pytest.raises(InvalidRequest):
        apps.create_app(session, "")


# --- People


@pytest.fixture
def ann(engine: Engine) -> str:
    with transaction(engine) as session:
        users.create_user(session, "ann", "correct horse", "admin")
    return "ann"


def test_a_person_signs_in(engine: Engine, ann: str) -> None:
    caller = users.authenticate_user(engine, ann, "correct horse", "10.0.0.1")
    assert (caller.name, caller.role, caller.businesses, caller.kind) == (
        "ann",
        Role.ADMIN,
        None,
        "user",
    )


def test_failures_are_refused_alike_and_written_down(engine: Engine, ann: str) -> None:
    for name, password in ((ann, "wrong"), ("nobody", "correct horse"), ("nobody", "")):
        with pytest.raises(Unauthenticated, match=users.WRONG):
            users.authenticate_user(engine, name, password, "10.0.0.1", NOW)
    with reading(engine) as session:
        rows = session.scalars(select(Audit)).all()
    assert [(row.target, row.source_ip, row.outcome, row.at) for row in rows] == [
        (name, "10.0.0.1", "failed", NOW) for name in ("ann", "nobody", "nobody")
    ]
    assert "wrong" not in str([vars(row) for row in rows])


@pytest.mark.parametrize("name", ["an\0n", "an\ud800n"])
def test_a_name_that_is_no_text_is_nobody_s(engine: Engine, ann: str, name: str) -> None:
    with pytest.raises(Unauthenticated):
        users.authenticate_user(engine, name, "correct horse", "10.0.0.1")


def fail(engine: Engine, times: int, *, name: str = "", source_ip: str = "") -> None:
    with transaction(engine) as session:
        for n in range(times):
            target, source = name or f"user-{n}", source_ip or f"10.0.1.{n}"
            record(session, None, users.SIGN_IN, target, source, "failed", at=NOW)


def test_an_account_locks_for_thirty_minutes_also_against_the_right_password(
    engine: Engine, ann: str
) -> None:
    users.authenticate_user(engine, ann, "correct horse", "10.0.0.1", NOW)  # it is in the cache
    fail(engine, 19, name=ann, source_ip="10.0.0.1")
    users.authenticate_user(engine, ann, "correct horse", "10.0.0.1", NOW)
    fail(engine, 1, name=ann, source_ip="10.0.0.1")
    with pytest.raises(Unauthenticated, match="30 minutes"):
        users.authenticate_user(engine, ann, "correct horse", "10.0.0.1", NOW + 29 * MINUTE)
    assert users.authenticate_user(engine, ann, "correct horse", "10.0.0.1", NOW + 30 * MINUTE)
    with reading(engine) as session:
        assert len(session.scalars(select(Audit)).all()) == 20  # a locked try adds no row


def test_an_address_locks_for_ten_minutes(engine: Engine, ann: str) -> None:
    fail(engine, 100, source_ip="10.0.0.9")
    with pytest.raises(Unauthenticated, match="10 minutes"):
        users.authenticate_user(engine, ann, "correct horse", "10.0.0.9", NOW)
    assert users.authenticate_user(engine, ann, "correct horse", "10.0.0.8", NOW)
    assert users.authenticate_user(engine, ann, "correct horse", "10.0.0.9", NOW + 10 * MINUTE)


def test_an_account_guessed_at_from_everywhere_locks_but_not_where_it_is_known(
    engine: Engine, ann: str
) -> None:
    with transaction(engine) as session:
        record(session, None, users.SIGN_IN, ann, "10.0.0.8", "done", at=NOW - MINUTE)
    fail(engine, 100, name=ann)
    fail(engine, 100, source_ip="10.0.0.8")

    with pytest.raises(Unauthenticated, match="30 minutes"):
        users.authenticate_user(engine, ann, "correct horse", "10.0.0.7", NOW)
    assert users.authenticate_user(engine, ann, "correct horse", "10.0.0.8", NOW)


def test_a_changed_password_and_a_switched_off_person_count_at_once(
    engine: Engine, ann: str
) -> None:
    users.authenticate_user(engine, ann, "correct horse", "10.0.0.1")
    with transaction(engine) as session:
        opened = open_session(session, ann, "10.0.0.1", NOW)
        users.change_password(session, ann, "battery staple")
        with pytest.raises(Unauthenticated):
            session_caller(session, opened.token, NOW)
    with pytest.raises(Unauthenticated):
        users.authenticate_user(engine, ann, "correct horse", "10.0.0.1")
    users.authenticate_user(engine, ann, "battery staple", "10.0.0.1")
    with transaction(engine) as session:
        change_rights(users.find_user(session, ann), is_active=False)
    with pytest.raises(Unauthenticated):
        users.authenticate_user(engine, ann, "battery staple", "10.0.0.1")


@pytest.mark.parametrize(
    ("name", "password"), [("", "long enough"), ("a:b", "long enough"), ("bob", "short")]
)
def test_bad_names_and_passwords_are_refused(session: Session, name: str, password: str) -> None:
    with pytest.raises(InvalidRequest):
        users.create_user(session, name, password)


def test_a_name_is_taken_once_and_people_can_be_removed(session: Session, vault: Vault) -> None:
    users.create_user(session, "bob", "long enough", "viewer", [4, 4, 1])
    with pytest.raises(Conflict):
        users.create_user(session, "bob", "long enough")
    assert [user.businesses for user in users.list_users(session)] == [[1, 4]]
    create_access_key(session, vault, "bob")
    open_session(session, "bob", "::1", NOW)
    users.remove_user(session, "bob")
    assert session.scalars(select(User)).all() == []


def test_passwords_are_kept_as_scrypt_with_a_salt() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert first.startswith("scrypt$32768$8$1$")
    assert is_password("correct horse", first)
    assert not is_password("correct horsf", first)


def test_a_right_password_is_quick_the_second_time_and_only_for_a_while() -> None:
    stored = hash_password("correct horse")
    cache, forgetful = SuccessCache(), SuccessCache(ttl=0)
    for memory in (cache, forgetful):
        assert memory.is_password("correct horse", stored)
        assert not memory.is_password("wrong", stored)
    broken = stored[:-4]  # cannot be checked the slow way any more, and is another hash
    assert cache.is_password("correct horse", stored)
    assert not cache.is_password("correct horse", broken)
    assert b"correct" not in b"".join(cache._until)


# --- Signed requests


def test_a_signature_is_what_openssl_computes(tmp_path: Path) -> None:
    body = b'{"name":"x"}'
    request = SignedRequest(
        method="post",
        path="/api/v2/tasks/instances/1/retry",
        host="ocp.example:8080",
        date="Sun, 01 Mar 2026 12:00:00 GMT",
        content_type="application/json",
        body=body,
        headers={"X-Ocp-Origin": "test", "Accept": "*/*", "x-ocp-date": "1"},
        query=[("size", "10"), ("name", "b c"), ("name", "a/é~"), ("flag", "")],
    )
    md5 = hashlib.md5(body).hexdigest().upper()
    text = (
        f"POST\n{md5}\napplication/json\nSun, 01 Mar 2026 12:00:00 GMT\nocp.example:8080\n"
        "x-ocp-date:1\nx-ocp-origin:test\n"
        "/api/v2/tasks/instances/1/retry?flag=&name=a%2F%C3%A9~%2Cb%20c&size=10"
    )
    assert string_to_sign(request) == text
    computed = subprocess.run(
        ["openssl", "dgst", "-sha1", "-hmac", "the-secret-key", "-binary"],
        input=text.encode(),
        capture_output=True,
        check=True,
    ).stdout
    signature = base64.b64encode(computed).decode()
    assert sign("the-secret-key", text) == signature
    assert is_signed(request, "the-secret-key", signature)
    assert not is_signed(request, "another-key", signature)


def test_the_hmac_is_the_one_of_rfc_2202() -> None:
    expected = "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    assert base64.b64decode(sign("Jefe", "what do ya want for nothing?")).hex() == expected


def test_empty_parts_keep_their_line_and_a_bare_comma_is_understood() -> None:
    request = SignedRequest(method="GET", path="/x", host="h", date="d", query=[("a", "2,1")])
    assert string_to_sign(request) == "GET\n\n\nd\nh\n\n/x?a=2%2C1"
    twice = SignedRequest(
        method="GET", path="/x", host="h", date="d", query=[("a", "2"), ("a", "1")]
    )
    bare = "GET\n\n\nd\nh\n\n/x?a=1,2"
    assert is_signed(twice, "k", sign("k", bare))
    assert is_signed(twice, "k", sign("k", string_to_sign(twice)))


@given(st.sampled_from(["method", "path", "host", "date", "content_type"]), st.text(min_size=1))
def test_every_part_is_covered(part: str, added: str) -> None:
    parts = {"method": "GET", "path": "/x", "host": "h", "date": "d", "content_type": ""}
    signature = sign("k", string_to_sign(SignedRequest(**parts)))  # type: ignore[arg-type]
    changed = SignedRequest(**{**parts, part: parts[part] + added})  # type: ignore[arg-type]
    assert not is_signed(changed, "k", signature)


@pytest.mark.parametrize(
    ("date", "recent"),
    [
        ("Sun, 01 Mar 2026 12:00:00 GMT", True),
        ("Sun, 01 Mar 2026 12:15:00 GMT", True),
        ("Sun, 01 Mar 2026 12:15:01 GMT", False),
        ("Sun, 01 Mar 2026 11:44:59 GMT", False),
        ("Sun, 01 Mar 2026 13:00:00 +0100", True),
        ("", False),
        ("yesterday", False),
        ("Sun, 99 Mar 2026 12:00:00 GMT", False),
        ("Sun, 01 Mar 2026 12:00:00 +999999999999999999999", False),
        ("Fri, 31 Dec 9999 23:59:59 -2300", False),
    ],
)
def test_fifteen_minutes_are_the_limit(date: str, recent: bool) -> None:
    assert is_recent(date, NOW) is recent


def test_an_access_key_has_the_rights_of_its_user(session: Session, vault: Vault) -> None:
    users.create_user(session, "ann", "correct horse", "operator", [5])
    pair = create_access_key(session, vault, "ann")
    request = SignedRequest(method="GET", path="/x", host="h", date="Sun, 01 Mar 2026 12:00:00 GMT")
    good = sign(pair.secret_key, string_to_sign(request))
    caller = authenticate_signature(session, vault, pair.access_key, good, request, NOW)
    assert (caller.name, caller.role, caller.businesses) == ("ann", "operator", frozenset({5}))
    header = f"OCP-ACCESS-KEY-HMACSHA1 {pair.access_key}:{good}"
    assert read_authorization(header) == (pair.access_key, good)
    assert read_authorization("Basic abc:def") is None
    for access_key, signature, at in (
        (pair.access_key, good[::-1], NOW),
        (pair.access_key, "é", NOW),
        ("UNKNOWN", good, NOW),
        (pair.access_key, good, NOW + 16 * MINUTE),
    ):
        with pytest.raises(Unauthenticated):
            authenticate_signature(session, vault, access_key, signature, request, at)
    [row] = list_access_keys(session, "ann")
    assert pair.secret_key.encode() not in row.secret_key
    assert pair.secret_key not in repr(pair)
    remove_access_key(session, pair.access_key)
    with pytest.raises(Unauthenticated):
        authenticate_signature(session, vault, pair.access_key, good, request, NOW)


# --- Browsers


def test_a_browser_stays_signed_in_until_its_time_is_over(session: Session) -> None:
    users.create_user(session, "ann", "correct horse")
    opened = open_session(session, "ann", "10.0.0.1", NOW, 30 * MINUTE)
    assert session_caller(session, opened.token, NOW + 29 * MINUTE).name == "ann"
    with pytest.raises(Unauthenticated):
        session_caller(session, opened.token, NOW + 30 * MINUTE)
    assert delete_ended_sessions(session, NOW + 30 * MINUTE) == 1


def test_a_browser_signs_out_and_a_made_up_cookie_is_nobody(session: Session) -> None:
    users.create_user(session, "ann", "correct horse")
    opened = open_session(session, "ann", "10.0.0.1", NOW)
    assert opened.token not in repr(opened)
    close_session(session, opened.token)
    for token in (opened.token, "", "made-up"):
        with pytest.raises(Unauthenticated):
            session_caller(session, token, NOW)


def test_the_csrf_value_belongs_to_one_session() -> None:
    assert is_csrf_token("token", csrf_token("token"))
    for given_value in ("", "token", csrf_token("another"), "é"):
        assert not is_csrf_token("token", given_value)


# --- Rights and the record


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.VIEWER, {Role.VIEWER}),
        (Role.OPERATOR, {Role.VIEWER, Role.OPERATOR}),
        (Role.ADMIN, {Role.VIEWER, Role.OPERATOR, Role.ADMIN}),
    ],
)
def test_a_role_includes_the_lesser_ones(role: Role, allowed: set[Role]) -> None:
    caller = Caller(name="x", role=role, businesses=None, kind="app")
    for needed in Role:
        if needed in allowed:
            require(caller, needed, [1, 2])
        else:
            with pytest.raises(Forbidden, match=str(needed)):
                require(caller, needed)


def test_every_business_must_be_open() -> None:
    caller = Caller(name="x", role=Role.ADMIN, businesses=frozenset({1, 2}), kind="user")
    require(caller, Role.VIEWER, [1, 2, 1])
    with pytest.raises(Forbidden, match="business 3, 9") as refused:
        require(caller, Role.VIEWER, [9, 1, 3])
    assert refused.value.details == {"businesses": [3, 9]}


def test_what_was_done_is_written_down_without_secrets(session: Session) -> None:
    caller = Caller(
        name="cmdb", role=Role.OPERATOR, businesses=None, kind="app", acting_for="a" * 300
    )
    details = {"hosts": [{"ip": "10.0.0.1", "password": "swordfish", "Key": "k"}], "n": 1}
    record(session, caller, "job install", "job 7", "10.0.0.1", "done", details)
    session.flush()
    row = session.scalars(select(Audit)).one()
    assert (row.caller, row.caller_kind, row.target, row.outcome) == (
        "cmdb",
        "app",
        "job 7",
        "done",
    )
    assert row.acting_for == "a" * 255
    assert row.details == {"hosts": [{"ip": "10.0.0.1", "password": "***", "Key": "***"}], "n": 1}
