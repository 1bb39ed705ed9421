"""What a page costs, and what is shown of steps that never began."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from app.domain.catalogue import CATALOGUE
from app.domain.states import Status
from app.jobs.context import Context
from app.jobs.step_queries import shown_steps
from tests.api.conftest import Call, a_call, a_row, header
from tests.api.given import arrange, play, submit
from tests.jobs.conftest import a_host

FAILS = ["auth", "the password was not accepted"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/job/1/details/", {"page": 2}),
        ("/api/job/1/details/", {"conditions": [{"key": "status", "value": ["FAILED"]}]}),
        ("/api/job/1/details/", {"conditions": [{"key": "ip", "value": ["10.9.0.1"]}]}),
        ("/api/job/1/log/", {"instance_id": "host|instance|host|1"}),
        ("/backend/api/subscription/task_result/", {"subscription_id": 1, "page": 1}),
        ("/api/host/search/", {"bk_host_id": [1], "extra_data": ["job_result"]}),
    ],
)
def test_a_look_at_a_job_scans_no_large_table(
    ctx: Context, call: Call, path: str, body: dict[str, Any]
) -> None:
    arrange(ctx, {"hosts": 40, "played": {"10.9.0.1": "ok", "10.9.0.2": FAILS}})
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        asked.append((statement, values))

    event.listen(ctx.engine, "before_cursor_execute", note)
    assert call(path, body)["result"]
    event.remove(ctx.engine, "before_cursor_execute", note)

    with ctx.engine.connect() as connection:
        for statement, values in asked:
            if not statement.startswith("SELECT"):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            scans = [row[-1] for row in plan if row[-1].startswith("SCAN")]
            large = ("target", "part", "step", "run_part", "event")
            assert not [scan for scan in scans if scan.split()[1] in large], statement


def test_a_page_takes_as_many_statements_as_its_neighbour(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 40, "played": {}})
    counts = []
    for size in (5, 40):
        asked: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_m: Any, seen: list[str] = asked) -> None:
            seen.append(statement)

        event.listen(ctx.engine, "before_cursor_execute", note)
        call("/api/job/1/details/", {"pagesize": size})
        event.remove(ctx.engine, "before_cursor_execute", note)
        counts.append(len(asked))

    assert counts[0] == counts[1]


def test_after_a_retry_a_host_shows_its_newest_attempt(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0), a_host(1)])
    play(ctx, {"10.9.0.1": "ok", "10.9.0.2": FAILS})
    assert call("/api/job/1/retry/")["data"] == [1, 2]
    play(ctx, {"10.9.0.2": "ok"})

    details = call("/api/job/1/details/")["data"]
    newest = call("/backend/api/subscription/task_result/", {"subscription_id": 1})["data"]
    first = call(
        "/backend/api/subscription/task_result/", {"subscription_id": 1, "task_id_list": [1]}
    )["data"]
    whole = call(
        "/backend/api/subscription/task_result/",
        {"subscription_id": 1, "need_aggregate_all_tasks": True},
    )["data"]

    assert details["status"] == "SUCCESS"
    assert [row["status"] for row in details["list"]] == ["SUCCESS", "SUCCESS"]
    assert details["task_id_list"] == [1, 2]
    assert [(row["task_id"], row["status"]) for row in newest] == [(2, "SUCCESS")]
    assert [row["status"] for row in first] == ["FAILED", "SUCCESS"]
    assert [row["task_id"] for row in whole] == [2, 1]


@dataclass(frozen=True)
class APart:
    job_type: str
    status: Status
    reason: str
    finished_at: datetime | None = None


@dataclass(frozen=True)
class AStep:
    status: Status
    key: str = "check"
    log: str = "what it said"
    started_at: None = None
    finished_at: None = None


BEGUN = st.dictionaries(
    st.integers(0, 6), st.sampled_from(list(Status)).map(lambda status: AStep(status)), max_size=7
)


@given(st.sampled_from(list(Status)), BEGUN)
def test_a_part_and_its_steps_never_contradict_each_other(
    status: Status, begun: dict[int, AStep]
) -> None:
    part = APart("INSTALL_AGENT", status, "because" if status is Status.FAILED else "")

    steps = shown_steps(part, begun)

    assert len(steps) == len(CATALOGUE["INSTALL_AGENT"].steps)
    shown = [step.status for step in steps]
    if status is Status.FAILED:
        assert Status.FAILED in shown
        assert any("because" in step.log for step in steps if step.status is Status.FAILED)
    if status.is_final:
        assert Status.RUNNING not in shown
    if status is Status.SUCCESS:
        assert Status.PENDING not in shown


@given(BEGUN)
def test_what_lies_before_a_step_that_began_is_done(begun: dict[int, AStep]) -> None:
    steps = shown_steps(APart("INSTALL_AGENT", Status.RUNNING, ""), begun)

    for index in range(max(begun, default=0)):
        assert index in begun or steps[index].status is Status.SUCCESS


def test_a_waiting_host_says_whom_it_waits_for(ctx: Context, call: Call) -> None:
    submit(ctx, [a_host(0)])
    with ctx.engine.begin() as connection:
        connection.execute(text("UPDATE part SET reason = 'held by job 9'"))

    row = call("/api/job/1/details/")["data"]["list"][0]

    assert (row["status"], row["status_display"]) == ("PENDING", "held by job 9")


def test_a_host_of_no_address_family_in_common_is_still_one(ctx: Context, call: Call) -> None:
    """Both shapes of a name mean the same host, also when only IPv6 is there."""
    submit(ctx, [a_host(0, inner_ip=None, inner_ipv6="fd00:0000:0000:0000:0000:0000:0000:0007")])
    stored = call("/api/job/1/details/")["data"]["list"][0]["instance_id"]

    assert stored == "host|instance|host|fd00:0000:0000:0000:0000:0000:0000:0007-0-0"
    for name in (stored, "host|instance|host|1"):
        assert call("/api/job/1/log/", {"instance_id": name})["result"]
        assert call("/subscription_task_result/", {"subscription_id": 1, "instance_id_list": name})[
            "data"
        ]


def test_a_login_is_said_to_be_gone_only_when_it_is(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 1})
    (kept,) = call("/api/host/search/")["data"]["list"]
    arrange(ctx, {"logins_expired": True})
    (gone,) = call("/api/host/search/")["data"]["list"]

    assert kept["identity_info"]["re_certification"] is False
    assert gone["identity_info"]["re_certification"] is True


STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|ERROR)\] "


def test_every_line_of_a_log_is_dated_and_a_step_says_how_it_ends(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": FAILS}})
    name = {"instance_id": "host|instance|host|1"}

    good = call("/api/job/1/log/", name)["data"][0]
    bad = call("/api/job/1/log/", {"instance_id": "host|instance|host|2"})["data"]
    zh = call("/api/job/1/log/", name, headers={**header(), "blueking-language": "zh-cn"})["data"]

    assert all(re.match(STAMP, line) for line in good["log"].splitlines())
    said = [re.sub(STAMP, "", line) for line in good["log"].splitlines()]
    assert said == ["Check the host begins.", "fine", "Check the host succeeded."]
    assert good["log"].startswith(f"[{good['start_time']} INFO]")
    assert f"[{good['finish_time']} INFO] Check the host succeeded." in good["log"]
    assert bad[0]["log"].endswith(" ERROR] Check the host failed; see above why.")
    assert FAILS[1] in bad[0]["log"]
    assert bad[1]["log"] == ""
    assert "INFO] 开始 检查主机.\n" in zh[0]["log"]
    assert zh[0]["log"].endswith("INFO] 检查主机 成功")


def test_a_result_without_detail_has_no_logs(ctx: Context, call: Call) -> None:
    arrange(ctx, {"hosts": 1, "played": {"10.9.0.1": "ok"}})

    logs = {
        detail: {
            step["log"] != ""
            for row in call(
                "/backend/api/subscription/task_result/",
                {"subscription_id": 1, "need_detail": detail},
            )["data"]
            for step in row["steps"][0]["target_hosts"][0]["sub_steps"]
            if step["step_code"] == "check"
        }
        for detail in (True, False)
    }

    assert logs == {True: {True}, False: {False}}


def test_an_address_of_the_sixth_version_stands_in_brackets_behind_its_zone(call: Call) -> None:
    assert call("/api/job/install/", a_call(a_row(1), a_row(2, inner_ipv6="2001:db8::1")))["result"]

    placed = call("/api/host/search/", {"cloud_id_ip": {"ipv6": True}})["data"]
    alone = call("/api/host/search/", {"only_ip": True, "return_field": "inner_ipv6"})["data"]

    exploded = "2001:0db8:0000:0000:0000:0000:0000:0001"
    assert placed == {"total": 1, "list": [f"0:[{exploded}]"]}
    assert alone == {"total": 1, "list": [exploded]}
