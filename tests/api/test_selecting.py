"""Which hosts and which jobs a filter means; one that cannot be told means none."""

from typing import Any

import pytest
from sqlalchemy import select

from app.jobs.context import Context
from app.models.base import reading
from app.models.work import Job
from tests.api.conftest import Call, a_call, a_row
from tests.api.given import arrange

BUSINESS = {"bk_biz_id": 2}
SHORT, EXPLODED = "FD00::1", "fd00:0000:0000:0000:0000:0000:0000:0001"
IN_BRACKETS = f"[{SHORT}]"


@pytest.mark.parametrize(
    ("within", "found"),
    [
        (BUSINESS, 2),
        ({**BUSINESS, "bk_set_ids": [], "bk_module_ids": []}, 2),
        ({**BUSINESS, "bk_module_ids": [77]}, 0),
        ({**BUSINESS, "bk_set_ids": [5]}, 0),
        ({**BUSINESS, "bk_set_ids": 5}, 0),
        ({"bk_module_ids": [77]}, 0),
    ],
)
def test_nobody_is_in_a_set_or_module_we_do_not_know(
    ctx: Context, call: Call, within: dict[str, Any], found: int
) -> None:
    arrange(ctx, {"hosts": 2})
    conditions = [{"key": "topology", "value": within}]

    assert call("/api/host/search/", {"conditions": conditions})["data"]["total"] == found


def test_everything_in_a_module_is_not_everything_in_its_business(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})
    within = {**BUSINESS, "bk_module_ids": [77]}

    said = call("/api/job/operate/", everything(conditions=[{"key": "topology", "value": within}]))

    assert said["code"] == 3801018
    assert jobs(ctx) == [1]


def test_everything_that_turns_out_to_be_nothing_says_so(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 1})

    said = call("/api/job/operate/", everything(bk_biz_id=[99]))

    assert said["code"] == 3801018
    assert "No host matches" in said["message"]
    assert said["errors"].keys() == {"exclude_hosts"}
    assert said["data"] == {"job_id": None, "ip_filter": []}


@pytest.mark.parametrize("named", [{"hosts": [{"bk_host_id": 1}]}, {"bk_host_id": [1]}])
def test_some_hosts_and_everything_exclude_each_other(
    ctx: Context, call: Call, named: dict[str, Any]
) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})

    said = call("/api/job/operate/", everything(**named))

    assert said["code"] == 3800001
    assert said["errors"].keys() == {"exclude_hosts"}
    assert jobs(ctx) == [1]


@pytest.mark.parametrize("spelled", [SHORT, EXPLODED, IN_BRACKETS, f" {SHORT} "])
def test_an_address_is_found_however_it_is_spelled(call: Call, spelled: str) -> None:
    left_out = a_row(2, inner_ip="", inner_ipv6="fd00::2", os_type="AIX")
    call("/api/job/install/", a_call(a_row(1, inner_ip="", inner_ipv6=SHORT), left_out))
    other = spelled.replace("::1", "::2").replace("0001", "0002")

    def details(address: str) -> list[str]:
        condition = {"key": "ip", "value": [address]}
        found = call("/api/job/1/details/", {"conditions": [condition]})["data"]["list"]
        return [row["status"] for row in found]

    assert details(spelled) == ["PENDING"]
    assert details(other) == ["IGNORED"]
    assert call("/api/job/job_list/", {"inner_ip_list": [spelled]})["data"]["total"] == 1
    for key in ("ip", "inner_ipv6", "query"):
        condition = {"key": key, "value": [spelled]}
        assert call("/api/host/search/", {"conditions": [condition]})["data"]["total"] == 1, key


@pytest.mark.parametrize("form", ["cloud_ipv4", "cloud_ipv6", "cloud_ipv4_with_brackets"])
def test_an_address_with_its_zone_is_read_as_we_write_it(call: Call, form: str) -> None:
    call("/api/job/install/", a_call(a_row(1, inner_ipv6=SHORT), a_row(2, inner_ipv6="fd00::2")))
    [written, _] = call("/api/host/search/", {"only_ip": True, "return_field": form})["data"][
        "list"
    ]

    condition = {"key": "bk_cloud_ip", "value": [written]}
    found = call("/api/host/search/", {"conditions": [condition]})["data"]["list"]

    assert [host["bk_host_id"] for host in found] == [1]


def test_part_of_an_address_is_still_found(call: Call) -> None:
    call("/api/job/install/", a_call(a_row(1, inner_ipv6=SHORT), a_row(2)))

    for text in ("fd00:", "10.1.0.2"):
        condition = {"key": "query", "value": [text]}
        assert call("/api/host/search/", {"conditions": [condition]})["data"]["total"] == 1, text


@pytest.mark.parametrize(("names", "found"), [([], 1), ("", 1), (["log collection"], 0), ("x", 0)])
def test_no_job_is_of_a_policy(ctx: Context, call: Call, names: Any, found: int) -> None:
    arrange(ctx, {"hosts": 1})

    assert call("/api/job/job_list/", {"policy_name": names})["data"]["total"] == found


@pytest.mark.parametrize("key", ["ip", "status", "instance_id", "exclude_instance_ids"])
def test_a_condition_without_values_is_none_for_the_hosts_of_a_job(
    ctx: Context, call: Call, key: str
) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})
    conditions = [{"key": key, "value": []}]

    assert call("/api/job/1/details/", {"conditions": conditions})["data"]["total"] == 2


@pytest.mark.parametrize("key", ["ip", "status", "os_type", "topology", "is_manual"])
def test_a_condition_without_values_never_means_every_host(
    ctx: Context, call: Call, key: str
) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})

    said = call("/api/job/operate/", everything(conditions=[{"key": key, "value": []}]))

    assert said["code"] == 3801018


@pytest.mark.parametrize("value", ["", [""], ["10.9", ""]])
def test_an_empty_text_to_look_for_never_means_every_host(
    ctx: Context, call: Call, value: Any
) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})
    conditions = [{"key": "query", "value": value}]

    said = call("/api/job/operate/", everything(conditions=conditions))

    assert said["errors"].keys() == {"conditions"}
    assert jobs(ctx) == [1]
    assert call("/api/host/search/", {"conditions": conditions})["data"]["total"] == 2


def test_an_empty_address_is_no_hosts_of_a_job(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2})
    conditions = [{"key": "ip", "value": ""}]

    assert call("/api/job/1/details/", {"conditions": conditions})["data"]["list"] == []


@pytest.mark.parametrize("key", ["is_manual", "enable_compression", "node_from"])
@pytest.mark.parametrize("value", ["perhaps", None, {}, ["perhaps"]])
def test_a_value_that_cannot_be_told_matches_no_host(
    ctx: Context, call: Call, key: str, value: Any
) -> None:
    arrange(ctx, {"hosts": 2})

    said = call("/api/host/search/", {"conditions": [{"key": key, "value": value}]})

    assert said["data"]["total"] == 0


@pytest.mark.parametrize("value", [False, "false", 0, "0", [True, False]])
def test_a_flag_is_told_however_it_is_spelled(ctx: Context, call: Call, value: Any) -> None:
    arrange(ctx, {"hosts": 2})

    said = call("/api/host/search/", {"conditions": [{"key": "is_manual", "value": value}]})

    assert said["data"]["total"] == 2


def everything(**more: Any) -> dict[str, Any]:
    """A call that operates on all hosts that match."""
    return {"job_type": "RESTART_AGENT", "exclude_hosts": [], **more}


def jobs(ctx: Context) -> list[int]:
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Job.id)))
