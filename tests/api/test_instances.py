"""Which instances of a job are meant, and which record of each is told."""

from typing import Any

import pytest
from sqlalchemy import text

from app.jobs.context import Context
from tests.api.conftest import Call, a_call, a_row, header
from tests.api.given import arrange, play, submit
from tests.jobs.conftest import a_host

REFUSED = ["auth", "wrong password"]
EXITED = ["agent_exited", "exited at once"]
BY_ADDRESS = "host|instance|host|10.9.0.2-0-0"
RESULT = "/backend/api/subscription/task_result/"


@pytest.fixture
def restarted(ctx: Context, call: Call) -> int:
    """A job on known hosts, which it names by their ids; both have failed."""
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})
    asked = {
        "job_type": "RESTART_AGENT",
        "bk_host_id": [1, 2],
        "then": [{"job_type": "RELOAD_AGENT"}],
    }
    job_id: int = call("/api/job/operate/", asked)["data"]["job_id"]
    play(ctx, {"10.9.0.1": EXITED, "10.9.0.2": EXITED})
    return job_id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/job/{job}/retry/", {"instance_id_list": [BY_ADDRESS]}),
        ("/api/job/{job}/retry_node/", {"instance_id": BY_ADDRESS}),
        (
            "/backend/api/subscription/retry/",
            {"subscription_id": 2, "instance_id_list": [BY_ADDRESS]},
        ),
    ],
)
def test_a_host_may_be_called_by_its_address_where_its_id_is_the_name(
    call: Call, restarted: int, path: str, body: dict[str, Any]
) -> None:
    assert call(path.format(job=restarted), body)["result"]

    rows = call(f"/api/job/{restarted}/details/")["data"]["list"]
    assert {row["inner_ip"]: row["status"] for row in rows} == {
        "10.9.0.1": "FAILED",
        "10.9.0.2": "PENDING",
    }
    assert call(f"/api/job/{restarted}/revoke/", {"instance_id_list": [BY_ADDRESS]})["result"]


def test_a_service_is_no_host(call: Call, restarted: int) -> None:
    meant = {"instance_id_list": ["service|instance|service|2"]}

    assert call(f"/api/job/{restarted}/retry/", meant)["code"] == 3800007


def test_of_several_tasks_the_newest_record_counts(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": REFUSED}})
    call("/api/job/1/retry/")
    play(ctx, {"10.9.0.2": "ok"})
    both = {"subscription_id": 1, "task_id_list": [1, 2]}

    rows = call(RESULT, both)["data"]
    page = call(RESULT, {**both, "pagesize": 10})["data"]

    assert [(row["task_id"], row["status"]) for row in rows] == [(2, "SUCCESS"), (1, "SUCCESS")]
    assert (page["total"], page["status_counter"]) == (2, {"SUCCESS": 2, "total": 2})
    failed = call(RESULT, {"subscription_id": 1, "task_id_list": [1], "statuses": ["FAILED"]})
    assert [row["task_id"] for row in failed["data"]] == [1]


def test_the_counter_is_that_of_the_tasks_whatever_is_shown_of_them(
    ctx: Context, call: Call
) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": REFUSED}})

    page = call(RESULT, {"subscription_id": 1, "statuses": ["SUCCESS"], "pagesize": 10})["data"]

    assert (page["total"], len(page["list"])) == (1, 1)
    assert page["status_counter"] == {"SUCCESS": 1, "FAILED": 1, "total": 2}


def test_a_host_is_found_by_the_address_it_had_and_by_the_one_it_has(
    ctx: Context, call: Call
) -> None:
    submit(ctx, [a_host(0)])
    call("/api/host/update_single/", {"bk_host_id": 1, "inner_ip": "10.9.9.9"})

    for address in ("10.9.0.1", "10.9.9.9"):
        asked = {"conditions": [{"key": "ip", "value": [address]}]}
        assert call("/api/job/1/details/", asked)["data"]["total"] == 1


def test_a_step_of_a_later_stage_is_named_when_it_is_tried_again(
    ctx: Context, call: Call, restarted: int
) -> None:
    call(f"/api/job/{restarted}/retry/")
    play(ctx, {"10.9.0.1": "ok", "10.9.0.2": "ok"})
    play(ctx, {"10.9.0.1": EXITED, "10.9.0.2": "ok"})
    with ctx.engine.begin() as connection:  # it got as far as what only this stage does
        connection.execute(
            text("UPDATE step SET \"index\" = 2, key = 'reload' WHERE status = 'failed'")
        )
    asked = {"instance_id": "host|instance|host|1"}
    in_chinese = {**header(), "blueking-language": "zh-cn"}
    log = call(f"/api/job/{restarted}/log/", asked, headers=in_chinese)["data"]

    again = call(f"/api/job/{restarted}/retry_node/", asked, headers=in_chinese)

    (failed,) = [row for row in log if row["status"] == "FAILED"]
    assert again["data"]["retry_node_name"] in failed["step"]
    assert again["data"]["retry_node_name"] == "重载Agent配置"


def test_a_job_whose_hosts_are_all_tried_again_is_running(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": REFUSED}})

    call("/api/job/1/retry/")

    assert call("/api/job/1/details/")["data"]["status"] == "RUNNING"


def test_a_job_that_waits_is_pending_whoever_was_left_out(call: Call) -> None:
    call("/api/job/install/", a_call(a_row(0), a_row(1, os_type="WINDOWS")))

    assert call("/api/job/1/details/")["data"]["status"] == "PENDING"


def test_a_host_that_never_began_failed_at_some_time(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok"}})

    failed = call("/api/job/1/log/", {"instance_id": "host|instance|host|2"})["data"]

    (row,) = [row for row in failed if row["status"] == "FAILED"]
    assert row["finish_time"]
    assert all(line.startswith("[") for line in row["log"].splitlines())


def test_the_address_of_a_removed_host_is_free_again(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})
    taken = {"bk_host_id": 1, "inner_ip": "10.9.0.2"}
    assert call("/api/host/update_single/", taken)["code"] == 3801009
    assert call("/api/host/remove_host/", {"bk_host_id": [2]})["result"]

    assert call("/api/host/update_single/", taken)["result"]

    assert (
        call("/api/host/search/", {"bk_host_id": [1]})["data"]["list"][0]["inner_ip"] == "10.9.0.2"
    )


def test_how_a_known_host_is_installed_and_addressed_follows_what_was_last_said(
    ctx: Context, call: Call
) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": "ok"}})
    again = a_row(inner_ip="10.9.0.1", bk_addressing="dynamic", is_manual=True)
    call("/api/job/install/", a_call(again, job_type="REINSTALL_AGENT"))

    def known() -> tuple[bool, str]:
        row = call("/api/host/search/", {"bk_host_id": [1]})["data"]["list"][0]
        return row["is_manual"], row["bk_addressing"]

    assert known() == (True, "dynamic")
    call("/api/job/1/revoke/")
    call("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1]})
    assert known() == (True, "dynamic")


def test_a_call_whose_hosts_all_lack_a_login_is_one_that_is_filtered_whole(
    ctx: Context, call: Call
) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": "ok"}, "logins_expired": True})

    refused = call("/api/job/operate/", {"job_type": "RESTART_AGENT", "bk_host_id": [1]})

    assert refused["code"] == 3801018
    assert "No usable login for: 10.9.0.1" in refused["message"]
    (left_out,) = refused["data"]["ip_filter"]
    assert "send the login again" in left_out["msg"]
