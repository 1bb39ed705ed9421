"""Whatever a caller sends, the answer is clear and nothing breaks."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from app.api.nodeman.routes import ENDPOINTS
from app.api.nodeman.schemas_submit import HostRow, Install
from app.factory import create_app
from app.jobs.context import Context
from app.models.base import Base, reading
from app.models.fleet import Host
from app.models.work import Job, Subscription
from tests.api.conftest import Call, a_call, a_row, header, read
from tests.api.given import arrange

MIB = 1 << 20


class Counted(BytesIO):
    """A body that knows the largest piece anybody asked for."""

    def __init__(self, size: int) -> None:
        super().__init__(b" " * size)
        self.largest = 0

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        found = super().read(size)
        self.largest = max(self.largest, len(found))
        return found


def test_a_body_of_fifty_megabytes_is_refused_without_being_held(client: FlaskClient) -> None:
    body = Counted(50 * MIB)

    response = client.post(
        "/api/job/install/",
        input_stream=body,
        headers=header(),
        environ_overrides={"CONTENT_LENGTH": str(50 * MIB)},
    )

    said = read(response)
    assert said["code"] == 3800001
    assert "32 MiB" in said["message"]
    assert body.largest <= MIB
    assert not body.read(1), "a sender still writing would never read the answer"


def test_a_body_without_a_length_is_not_cut_off_in_silence(
    ctx: Context, client: FlaskClient
) -> None:
    small = create_app(replace(ctx, settings=replace(ctx.settings, max_body_mib=1))).test_client()

    response = small.post(
        "/api/job/job_list/",
        input_stream=BytesIO(b" " * (2 * MIB)),
        headers=header(),
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert read(response)["code"] == 3800001
    assert "1 MiB" in read(response)["message"]


def test_a_form_is_no_way_around_the_limit(ctx: Context, client: FlaskClient) -> None:
    small = create_app(replace(ctx, settings=replace(ctx.settings, max_body_mib=1))).test_client()

    said = read(
        small.post("/api/job/job_list/", data={"created_by": "x" * (2 * MIB)}, headers=header())
    )

    assert said["code"] == 3800001
    assert "1 MiB" in said["message"]


def test_ten_thousand_hosts_in_one_call(ctx: Context, call: Call) -> None:
    said = call("/api/job/install/", a_call(*(a_row(n, port=str(22)) for n in range(10_000))))

    assert said["result"], said["message"]
    assert said["data"]["ip_filter"] == []
    details = call("/api/job/1/details/", {"page": 1000})["data"]
    assert details["total"] == details["statistics"]["total_count"] == 10_000
    assert len(details["list"]) == 10


def test_a_refused_call_writes_nothing(ctx: Context, call: Call) -> None:
    said = call("/api/job/install/", a_call(a_row(1), a_row(2, bk_cloud_id=9)))

    assert said["code"] == 3801001
    with reading(ctx.engine) as session:
        assert session.scalar(select(func.count()).select_from(Host)) == 0
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_every_wrong_field_of_every_row_is_named(call: Call) -> None:
    said = call(
        "/api/job/install/", a_call(a_row(1, port=0, inner_ip="x"), a_row(2), a_row(3, account=""))
    )

    assert said["errors"]["hosts"].keys() == {"0", "2"} or said["errors"]["hosts"].keys() == {"0"}
    assert said["errors"]["hosts"]["0"].keys() == {"port", "inner_ip"}


def test_an_answer_never_repeats_a_secret(call: Call) -> None:
    said = call("/api/job/install/", a_call(a_row(1, password=["s3cr3t-canary"])))

    assert said["errors"] == {"hosts": {"0": {"password": ["must be a text"]}}}


def test_a_value_with_braces_arrives_as_it_is(ctx: Context, call: Call) -> None:
    account = "{{ lookup('pipe','id') }}"

    call("/api/job/install/", a_call(a_row(1, account=account)))

    with reading(ctx.engine) as session:
        assert session.scalars(select(Host.account)).all() == [account]


def test_addresses_are_kept_in_one_form(ctx: Context, call: Call) -> None:
    call("/api/job/install/", a_call(a_row(1, inner_ip=" 10.3.0.1 ", inner_ipv6="FD00::1")))

    with reading(ctx.engine) as session:
        (host,) = session.scalars(select(Host)).all()
    assert host.inner_ip == "10.3.0.1"
    assert host.inner_ipv6 == "fd00:0000:0000:0000:0000:0000:0000:0001"


def test_the_database_being_away_is_said_so(ctx: Context, client: FlaskClient) -> None:
    Base.metadata.drop_all(ctx.engine)

    said = client.post("/api/job/job_list/", json={}, headers=header()).get_json()
    health = client.get("/healthz")

    assert said["code"] == 3800002
    assert "database" in said["message"]
    assert health.status_code == 503
    assert "does not answer" in health.get_json()["database"]


def test_redis_being_away_is_said_so(ctx: Context) -> None:
    from app.queue import WorkQueue

    lost = replace(ctx, queue=WorkQueue("unix:///nowhere/redis.sock"))

    health = create_app(lost).test_client().get("/api/healthz/")

    assert health.status_code == 503
    assert health.get_json()["data"]["redis"] == "Redis does not answer."


@pytest.mark.parametrize("address", ["/healthz", "/docs", "/docs/docs.js", "/openapi.json"])
def test_what_anybody_may_read(client: FlaskClient, address: str) -> None:
    with client.get(address) as response:
        assert response.status_code == 200


def test_the_description_names_every_address_we_serve(client: FlaskClient) -> None:
    described = client.get("/openapi.json").get_json()["paths"].keys()

    served = {
        str(rule).replace("<", "{").replace(">", "}")
        for rule in client.application.url_map.iter_rules()
        if rule.endpoint.startswith("nodeman.")
    }
    assert served <= described


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "1", "-1", "1e9", "[]", "{}", "null", "[1,", "10.0.0.1", "::1", 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(HostRow().fields, JSON))


def some_fields(endpoint: Any) -> st.SearchStrategy[Any]:
    known = dict.fromkeys(endpoint.takes().fields, JSON)
    whole = st.fixed_dictionaries({}, optional={**known, "hosts": JSON | st.lists(ROW, max_size=2)})
    ids = st.fixed_dictionaries(
        {"job_id": st.just(1), "subscription_id": st.just(1), "job_type": st.just("RESTART_AGENT")}
    )
    return st.builds(lambda base, more: {**base, **more}, ids, whole)


FUZZED = {endpoint.name: endpoint for endpoint in ENDPOINTS}


@pytest.mark.parametrize("name", sorted(FUZZED))
def test_odd_json_never_breaks_an_endpoint(name: str, ctx: Context, client: FlaskClient) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok"}})
    path = FUZZED[name].paths[0].replace("<job_id>", "1")

    @settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(some_fields(FUZZED[name]))
    def fuzz(body: dict[str, Any]) -> None:
        response = client.post(path, data=json.dumps(body), headers=header())
        read(response)

    fuzz()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 40))
def test_pages_cut_a_list_like_a_slice(count: int, size: int, start: int) -> None:
    from app.api.nodeman.schemas import Paged, window

    rows = list(range(count))
    page = Paged()

    skip, take = window(page.load({"page": start, "pagesize": size}))
    assert rows[skip : skip + (take or 0)] == rows[(start - 1) * size : start * size]
    skip, take = window(page.load({"start": start, "page": 7, "pagesize": str(size)}))
    assert rows[skip : skip + (take or 0)] == rows[start - 1 : start - 1 + size]
    skip, take = window(page.load({"pagesize": -1}))
    assert (skip, take) == (0, None)


def test_pages_of_hosts_cover_every_host_once(ctx: Context, call: Call) -> None:
    call(
        "/api/job/install/",
        a_call(*(a_row(n, os_type="AIX" if n % 4 == 0 else "LINUX") for n in range(30))),
    )

    seen: list[str] = []
    for page in range(1, 6):
        rows = call("/api/job/1/details/", {"page": page, "pagesize": 7})["data"]["list"]
        seen += [row["ip"] for row in rows]

    assert len(seen) == len(set(seen)) == 30


def test_install_takes_no_shortcut_around_a_missing_list() -> None:
    assert Install().fields["hosts"].required


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/host/search/", {"conditions": [{"key": "ip", "value": ["x"] * 10_001}]}),
        ("/api/host/search/", {"conditions": [{"key": "query", "value": ["x"] * 101}]}),
        ("/api/host/search/", {"bk_host_id": list(range(10_001))}),
        ("/api/job/job_list/", {"job_id": list(range(1001))}),
    ],
)
def test_more_values_than_a_database_takes_are_refused(
    call: Call, path: str, body: dict[str, Any]
) -> None:
    assert call(path, body)["code"] == 3800001


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/host/search/", {"conditions": [{"key": "ip", "value": ["x"] * 10_000}]}),
        ("/api/host/search/", {"conditions": [{"key": "query", "value": ["x"] * 100}]}),
        ("/api/host/search/", {"bk_host_id": [2**62] * 10_000, "exclude_hosts": [1] * 10_000}),
        ("/api/job/1/details/", {"conditions": [{"key": "instance_id", "value": ["x"] * 9999}]}),
        (
            "/api/job/job_list/",
            {"job_id": [1] * 1000, "created_by": ["x"] * 1000, "inner_ip_list": ["y"] * 1000},
        ),
    ],
)
def test_as_many_values_as_allowed_are_no_trouble(
    ctx: Context, call: Call, path: str, body: dict[str, Any]
) -> None:
    arrange(ctx, {"hosts": 1})

    assert call(path, body)["result"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_word_that_is_a_digit_may_come_as_a_number(ctx: Context, call: Call, number: int) -> None:
    assert call("/api/job/install/", a_call(a_row(1, bk_addressing=number)))["result"]

    with reading(ctx.engine) as session:
        assert session.scalars(select(Host.addressing)).all() == [["static", "dynamic"][number]]


def test_a_number_that_is_no_word_is_refused_as_it_was_sent(call: Call) -> None:
    said = call("/api/job/install/", a_call(a_row(1, bk_addressing=2)))

    assert said["errors"]["hosts"]["0"].keys() == {"bk_addressing"}
    assert "2 is not known" in said["message"]


def test_work_we_cannot_do_is_refused_by_the_field_that_asks_for_it(
    ctx: Context, call: Call
) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": "ok"}})
    beside = {"is_install_other_agent": True}

    for path, body in (
        ("/api/job/install/", a_call(**beside)),
        ("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1], **beside}),
    ):
        assert call(path, body)["errors"].keys() == {"is_install_other_agent"}
    assert call("/api/job/install/", a_call(is_install_other_agent=False))["result"]


@pytest.mark.parametrize("place", ["query_string", "data"])
def test_an_object_may_be_json_text_in_a_query_or_a_form(
    ctx: Context, client: FlaskClient, place: str
) -> None:
    arrange(ctx, {"hosts": 2})
    operation = {
        "job_type": "REINSTALL_AGENT",
        "bk_host_id": "1",
        "agent_setup_info": '{"name": "agent", "version": "1.0.0"}',
        "then": '[{"job_type": "RESTART_AGENT"}]',
        "rollout": '{"canary": 1}',
    }
    for path, texts in (
        ("/api/job/job_list/", {"sort": '{"head": "total_count", "sort_type": "ASC"}'}),
        ("/api/host/search/", {"cloud_id_ip": '{"ipv4": true}'}),
        ("/api/job/operate/", operation),
    ):
        said = read(client.post(path, headers=header(), **{place: texts}))
        assert said["result"], said["message"]
    with reading(ctx.engine) as session:
        stages = session.scalars(select(Subscription.stages).order_by(Subscription.id)).all()[-1]
    assert [stage["job_type"] for stage in stages] == ["REINSTALL_AGENT", "RESTART_AGENT"]
    assert stages[0]["package_version"] == "1.0.0"


@pytest.mark.parametrize("text", ["", "{", "[1]", "x"])
def test_a_text_that_is_no_object_is_left_out_or_refused_by_name(call: Call, text: str) -> None:
    said = call("/api/job/job_list/", {"sort": text})

    assert said.get("errors", {}).keys() == ({"sort"} if text else set())


@pytest.mark.parametrize("half", ["\\u0000", "\\ud800"])
def test_what_no_database_keeps_is_no_more_welcome_as_json_text(
    client: FlaskClient, half: str
) -> None:
    row = json.dumps(a_row(1)).replace("root", half)
    form = {"job_type": "INSTALL_AGENT", "hosts": f"[{row}]"}

    said = read(client.post("/api/job/install/", headers=header(), data=form))

    assert said["code"] == 3800001
    assert "neither is text" in said["message"]


@pytest.mark.parametrize("path", ["data", "/data/../../etc", "/data\nPORT=1", "/"])
def test_a_data_path_no_host_can_use_is_refused_where_it_is_sent(
    ctx: Context, call: Call, path: str
) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": "ok"}})
    following = [{"job_type": "RELOAD_AGENT", "data_path": path}]

    row = call("/api/job/install/", a_call(a_row(1), a_row(2, data_path=path)))
    then = call("/api/job/operate/", {**RESTART, "then": following})
    edit = call("/api/host/update_single/", {"bk_host_id": 1, "data_path": path})

    assert row["errors"] == {"hosts": {"1": {"data_path": [edit["errors"]["data_path"][0]]}}}
    assert then["errors"]["then"]["0"].keys() == {"data_path"}
    with reading(ctx.engine) as session:
        assert session.scalars(select(Host.values)).all() == [{}]


def test_a_data_path_of_another_system_filters_its_host_and_no_other(call: Call) -> None:
    windows = a_row(2, os_type="WINDOWS", data_path="C:\\data")

    said = call("/api/job/install/", a_call(a_row(1, data_path="/data"), windows))

    assert [host["ip"] for host in said["data"]["ip_filter"]] == [windows["inner_ip"]]


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("inner_ip", "0.0.0.0"),
        ("inner_ip", "255.255.255.255"),
        ("inner_ip", "224.0.0.1"),
        ("inner_ipv6", "::"),
        ("inner_ipv6", "ff02::1"),
        ("login_ip", "0.0.0.0"),
        ("outer_ip", "192.0.2.1,0.0.0.0"),
    ],
)
def test_an_address_that_is_no_single_hosts_is_refused(
    call: Call, field: str, address: str
) -> None:
    said = call("/api/job/install/", a_call(a_row(1, **{field: address})))

    assert said["errors"]["hosts"]["0"].keys() == {field}
    assert "one host" in said["message"]


@pytest.mark.parametrize(
    ("field", "code"),
    [("bk_cloud_id", 3801001), ("ap_id", 3801007), ("install_channel_id", 3801037)],
)
def test_a_place_that_is_not_there_is_refused_by_field_and_host(
    call: Call, field: str, code: int
) -> None:
    wrong = a_row(2, **{field: 77})

    said = call("/api/job/install/", a_call(a_row(1), wrong))

    assert said["code"] == code
    assert said["errors"].keys() == {field}
    assert "77" in said["message"]
    assert wrong["inner_ip"] in said["message"]


def test_a_number_too_long_to_read_is_refused_without_advice_on_python(
    client: FlaskClient,
) -> None:
    body = '{"job_id": ' + "9" * 5000 + "}"

    said = read(client.post("/api/job/details/", data=body, headers=header()))

    assert said["code"] == 3800001
    assert "sys." not in said["message"]
    assert "digits" in said["message"]


RESTART = {"job_type": "RESTART_AGENT", "bk_host_id": [1]}
