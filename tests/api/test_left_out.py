"""What is said of hosts that were left out, and to whom."""

from typing import Any

import pytest
from sqlalchemy import select

from app.jobs.context import Context
from app.models.base import reading
from app.models.work import Job
from tests.api.conftest import Call, a_call, a_row
from tests.api.given import arrange, play

OURS, THEIRS = 2, 3
THEIR_V4, THEIR_V6 = "10.1.0.6", "fd00:0000:0000:0000:0000:0000:0000:0006"


@pytest.fixture
def their_host(call: Call) -> int:
    """A host of a business that `scoped` may not see."""
    row = a_row(5, bk_biz_id=THEIRS, inner_ipv6=THEIR_V6)
    assert call("/api/job/install/", a_call(row))["result"]
    return int(call("/api/host/search/")["data"]["list"][0]["bk_host_id"])


def test_one_address_of_somebody_else_does_not_stop_an_install(call: Call, their_host: int) -> None:
    said = call("/api/job/install/", a_call(a_row(5), a_row(6)), code="scoped")

    [left_out] = said["data"]["ip_filter"]
    assert left_out["msg"] == f"{THEIR_V4} belongs to another business"
    details = call(f"/api/job/{said['data']['job_id']}/details/", code="scoped")["data"]
    assert [(row["inner_ip"], row["status"]) for row in details["list"]] == [
        ("10.1.0.7", "PENDING"),
        (THEIR_V4, "IGNORED"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        a_row(5),
        a_row(9, inner_ip="", inner_ipv6=THEIR_V6),
        a_row(0, inner_ipv6=THEIR_V6),
        a_row(0, inner_ipv6=THEIR_V6, bk_host_id=2),
    ],
    ids=["v4", "v6", "v4 of ours and v6 of theirs", "id of ours and v6 of theirs"],
)
def test_a_host_of_somebody_else_is_not_described(
    call: Call, their_host: int, row: dict[str, Any]
) -> None:
    call("/api/job/install/", a_call(a_row(0)), code="scoped")

    said = call("/api/job/install/", a_call(row, a_row(8)), code="scoped")["data"]

    shown = call(f"/api/job/{said['job_id']}/details/", code="scoped")["data"]
    listed, detailed = said["ip_filter"][0], shown["list"][-1]
    assert listed["msg"] == detailed["reason"]
    assert listed["msg"].endswith(" belongs to another business")
    sent = {"bk_host_id": None, "inner_ipv6": "", **row}
    for left_out in (listed, detailed):
        for name in ("bk_biz_id", "bk_host_id", "inner_ip", "inner_ipv6"):
            assert left_out[name] == sent[name]


def test_the_id_of_somebody_elses_host_is_refused(call: Call, their_host: int) -> None:
    rows = a_call(a_row(5, bk_host_id=their_host), a_row(6))

    assert call("/api/job/install/", rows, code="scoped")["code"] == 9900403


def test_a_host_its_business_gave_up_may_be_installed_by_another(
    ctx: Context, call: Call, their_host: int
) -> None:
    play(ctx, {THEIR_V4: "ok"})
    assert call("/remove_host/", {"bk_host_id": [their_host]})["result"]

    said = call("/api/job/install/", a_call(a_row(5)), code="scoped")["data"]

    assert said["ip_filter"] == []
    [row] = call(f"/api/job/{said['job_id']}/details/", code="scoped")["data"]["list"]
    assert (row["bk_biz_id"], row["inner_ip"]) == (OURS, THEIR_V4)


def test_of_a_host_that_was_given_up_nothing_is_shown_either(
    ctx: Context, call: Call, their_host: int
) -> None:
    play(ctx, {THEIR_V4: "ok"})
    call("/remove_host/", {"bk_host_id": [their_host]})

    said = call("/api/job/install/", a_call(a_row(5, os_type="AIX"), a_row(6)), code="scoped")

    [left_out] = said["data"]["ip_filter"]
    assert (left_out["bk_biz_id"], left_out["bk_host_id"]) == (OURS, None)
    assert (left_out["inner_ip"], left_out["inner_ipv6"]) == (THEIR_V4, "")
    assert call(f"/api/job/{said['data']['job_id']}/details/", code="scoped")["result"]


def test_a_job_is_of_every_business_it_names_also_of_hosts_left_out(
    ctx: Context, call: Call
) -> None:
    call("/api/job/install/", a_call(a_row(0), a_row(1, bk_biz_id=THEIRS, os_type="WINDOWS")))
    play(ctx, {"10.1.0.1": "ok"})
    call("/api/job/install/", a_call(a_row(1, bk_biz_id=THEIRS)))
    call("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1, 2]})

    with reading(ctx.engine) as session:
        assert session.scalars(select(Job.business_ids)).all() == [[2, 3], [3], [2, 3]]
    for job_id in (1, 3):
        assert call(f"/api/job/{job_id}/details/", code="scoped")["code"] == 9900403


def test_a_host_left_out_has_the_names_of_its_zone_and_business(call: Call) -> None:
    call("/api/job/install/", a_call(a_row(0)))

    said = call("/api/job/install/", a_call(a_row(1), a_row(2, os_type="AIX")))["data"]
    refused = call("/api/job/install/", a_call(a_row(2, os_type="AIX", bk_biz_id=9)))["data"]

    kept, left_out = call(f"/api/job/{said['job_id']}/details/")["data"]["list"]
    assert left_out["bk_biz_name"] == kept["bk_biz_name"] == "business 2"
    for row in (left_out, said["ip_filter"][0], refused["ip_filter"][0]):
        assert row["bk_cloud_name"] == kept["bk_cloud_name"] == "Default Area"
    assert refused["ip_filter"][0]["bk_biz_name"] == "business 9"


def test_the_businesses_of_a_job_are_shown_by_name(call: Call) -> None:
    call("/api/job/install/", a_call(a_row(0), a_row(1, bk_biz_id=3, os_type="AIX")))

    [listed] = call("/api/job/job_list/")["data"]["list"]

    assert listed["bk_biz_scope"] == [2, 3]
    assert listed["bk_biz_scope_display"] == ["business 2", "business 3"]


def test_an_id_nobody_has_is_dropped_from_an_operation(ctx: Context, call: Call) -> None:
    call("/api/job/install/", a_call(a_row(0)))
    play(ctx, {"10.1.0.1": "ok"})

    call("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1, 99]})
    nothing_left = call("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [99]})

    details = call("/api/job/2/details/")["data"]
    assert [row["bk_host_id"] for row in details["list"]] == [1]
    assert details["ip_filter_list"] == []
    assert details["statistics"]["ignored_count"] == 0
    assert [row["bk_host_id"] for row in nothing_left["data"]["ip_filter"]] == [99]


def test_an_id_nobody_has_is_named_by_an_install(call: Call) -> None:
    said = call("/api/job/install/", a_call(a_row(0), a_row(1, inner_ip="", bk_host_id=99)))

    assert [row["msg"] for row in said["data"]["ip_filter"]] == ["there is no host 99"]
    assert call("/api/job/1/details/")["data"]["ip_filter_list"] == []


def test_a_host_that_was_removed_and_comes_back_is_not_called_removed(
    ctx: Context, call: Call
) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": "ok"}})
    call("/api/host/remove_host/", {"bk_host_id": [1]})

    assert call("/api/job/install/", a_call(a_row(1, inner_ip="10.9.0.1")))["result"]

    (host,) = call("/api/host/search/")["data"]["list"]
    assert (host["bk_host_id"], host["status"]) == (1, "NOT_INSTALLED")
