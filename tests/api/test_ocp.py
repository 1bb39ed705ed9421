"""The OCP language: lists, graphs, logs, and what may be done in which state."""

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from marshmallow import RAISE
from sqlalchemy import select

from app.access.caller import Role
from app.api.ocp import schemas, vocabulary
from app.api.ocp.routes import endpoints
from app.domain import errors
from app.domain.commands import RetryJob
from app.domain.rollout import Rollout
from app.domain.states import Direction, Operation, SubtaskStatus, TaskStatus
from app.factory import create_app
from app.jobs.cancel import cancel_subtask
from app.jobs.claim import claim_run
from app.jobs.context import Context
from app.jobs.retry import retry_job
from app.models.access import Audit
from app.models.base import reading, transaction
from app.models.work import Part, Run, Subtask
from tests.api.conftest import header
from tests.api.given import play
from tests.api.ocp import TASKS, Ask, asker, basic, read, submit_stages
from tests.jobs.conftest import claim_next, runs_of

REFUSED = ["auth", "wrong password"]
HALF = {"10.9.0.1": "ok", "10.9.0.2": REFUSED}


@pytest.fixture
def web(ctx: Context) -> FlaskClient:
    return create_app(ctx).test_client()


@pytest.fixture
def ask(web: FlaskClient) -> Ask:
    return asker(web)


# --- Words


def test_every_word_of_ours_has_one_of_theirs() -> None:
    assert vocabulary.TASK_STATUS.keys() == set(TaskStatus)
    assert vocabulary.SUBTASK_STATUS.keys() == set(SubtaskStatus)
    assert vocabulary.OPERATION.keys() == set(Operation)
    assert vocabulary.DIRECTION.keys() == set(Direction)
    assert vocabulary.PERMISSION.keys() == set(Role)


@pytest.mark.parametrize(
    "kind",
    [
        e
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, errors.HostlerError)
    ],
)
def test_every_error_has_a_status_a_code_and_both_languages(kind: type) -> None:
    for language in ("en", "zh"):
        fault = vocabulary.fault_of(kind(), language)
        assert fault.status >= 400
        assert re.fullmatch(r"(TSK|COM|IAM)\d{5}", fault.code)
        assert fault.message
        assert "{" not in fault.message


# --- The list


def test_a_list_has_a_page_and_basic_tasks(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")

    data = ask("GET", "?size=1&page=1")["data"]

    assert data["page"] == {"number": 1, "size": 1, "totalElements": 1, "totalPages": 1}
    [task] = data["contents"]
    assert task["cluster"] == {
        "id": 2,
        "name": "business 2",
        "obClusterId": 2,
        "type": "PRIMARY",
    }
    assert task["creator"] == {"name": "alice"}
    assert (task["status"], task["operation"], task["type"]) == ("RUNNING", "EXECUTE", "MANUAL")
    assert "startTime" not in task
    assert "finishTime" not in task
    assert [set(s) for s in task["subtasks"]] == [
        {"id", "name", "description", "status", "operation"}
    ] * 2


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1]),
        ("?name=install", [2, 1]),
        ("?keyword=INSTALL", [2, 1]),
        ("?name=", [2, 1]),
        ("?name=%25", []),
        ("?status=FAILED", [1]),
        ("?status=failed,RUNNING", [2, 1]),
        ("?status=FAILED&status=RUNNING", [2, 1]),
        ("?status=SUCCESSFUL", []),
        ("?type=MANUAL", [2, 1]),
        ("?type=SYS_ONECE,MANUAL", [2, 1]),
        ("?type=SYS_ONCE", []),
        ("?type=SCHEDULED", []),
        ("?clusterId=2", [2, 1]),
        ("?clusterId=3", []),
        ("?clusterName=business+2", [2, 1]),
        ("?cluterName=business+2", [2, 1]),
        ("?clusterName=other", []),
        ("?tenantId=1", []),
        ("?tenantName=t", [2, 1]),
        ("?tenantName=t&clusterId=2", []),
        ("?hostId=1", [2, 1]),
        ("?hostId=9", []),
        ("?sort=id,asc", [1, 2]),
        ("?sort=createTime,desc", [2, 1]),
        ("?sort=status,asc&sort=id,desc", [1, 2]),
        ("?sort=finishTime,desc", [1, 2]),
        ("?page=2&size=1", [1]),
        ("?page=9", []),
        ("?size=2000", [2, 1]),
        ("?unheard=of&taskInstanceId=7", [2, 1]),
    ],
)
def test_filters_pages_and_orders(ctx: Context, ask: Ask, query: str, found: list[int]) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)
    submit_stages(ctx, 1, "INSTALL_AGENT")

    assert [task["id"] for task in ask("GET", query)["data"]["contents"]] == found


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("?size=2001", "COM10001", "size"),
        ("?size=0", "COM10001", "size"),
        ("?size=many", "COM10001", "size"),
        ("?page=0", "COM10001", "page"),
        ("?page=99999999999999999999", "COM10001", "page"),
        ("?status=DONE", "COM10001", "status"),
        ("?type=AUTO", "COM10001", "type"),
        ("?clusterId=x", "COM10001", "clusterId"),
        ("?hostId=-1", "COM10001", "hostId"),
        ("?hostId=9223372036854775808", "COM10001", "hostId"),
        ("?name=a%00b", "COM10001", "name"),
        ("?sort=context,asc", "COM10011", "sort"),
        ("?sort=desc", "COM10011", "sort"),
        ("?sort=id;drop", "COM10011", "sort"),
    ],
)
def test_wrong_parameters_are_named(ask: Ask, query: str, code: str, field: str) -> None:
    error = ask("GET", query, 400)["error"]

    assert error["code"] == code
    assert [wrong["field"] for wrong in error["subErrors"]] == [field]
    assert all({"object", "message"} <= wrong.keys() for wrong in error["subErrors"])


def test_several_wrong_parameters_are_all_named(ask: Ask) -> None:
    error = ask("GET", "?size=0&page=x", 400)["error"]

    assert {wrong["field"] for wrong in error["subErrors"]} == {"size", "page"}


def test_creators_are_names(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")

    assert ask("GET", "/creators?type=MANUAL")["data"] == {"contents": ["alice"]}


# --- The graph


def test_the_graph_is_shown_with_what_is_null_left_out(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, HALF)

    task = ask("GET", "/1")["data"]

    assert task["taskDefinitionId"] == -1
    assert task["prohibitRollback"] is False
    assert "tenant" not in task
    first, second = sorted(task["subtasks"], key=lambda node: node["id"])
    assert (first["seriesId"], second["seriesId"]) == (0, 1)
    assert (first["upstreams"], first["downstreams"]) == ([], [second["id"]])
    assert (second["upstreams"], second["downstreams"]) == ([first["id"]], [])
    assert (first["parallelIdx"], first["nodeType"], first["runTime"]) == (-1, "ANSIBLE_TASK", 1)
    assert (first["status"], first["timeout"]) == ("FAILED", 1800)
    assert first["executor"]
    assert first["startTime"] <= first["finishTime"]
    assert first["hosts"] == {"total": 2, "success": 1, "failed": 1}
    assert first["causes"] == {"auth": 1}
    assert (second["status"], second["runTime"]) == ("READY", 1)  # the good host goes on
    assert "startTime" not in second
    assert "executor" not in second
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", first["createTime"])


def test_capabilities_say_what_may_be_done_and_why_not(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)

    [subtask] = ask("GET", "/1")["data"]["subtasks"]
    assert subtask["capabilities"]["retry"] == {"allowed": True}
    assert subtask["capabilities"]["cancel"]["allowedStates"] == ["READY", "RUNNING"]
    retry_job(ctx, RetryJob(job_id=1, created_by="bob"))

    task = ask("GET", "/1")["data"]
    assert task["newerTaskId"] == 2
    for may in (task["capabilities"], task["subtasks"][0]["capabilities"]):
        assert may["retry"]["allowed"] is False
        assert "2" in may["retry"]["reason"]


def test_reasons_are_in_the_readers_language(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    chinese = {"Accept-Language": "zh-CN"}

    english = ask("GET", "/1")["data"]
    translated = ask("GET", "/1", headers=chinese)["data"]

    for one, other in zip(
        [english, *english["subtasks"]], [translated, *translated["subtasks"]], strict=True
    ):
        for operation, may in one["capabilities"].items():
            assert other["capabilities"][operation]["allowed"] is may["allowed"]
            if not may["allowed"]:
                assert re.search("[\u4e00-\u9fff]", other["capabilities"][operation]["reason"])


def test_the_failed_hosts_of_a_subtask_are_named(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)

    data = ask("GET", "/1/subtasks/1")["data"]

    assert data["failedHosts"] == [
        {
            "hostId": 2,
            "address": "10.9.0.2",
            "status": "FAILED",
            "cause": "auth",
            "reason": "wrong password",
        }
    ]


@pytest.mark.parametrize(
    "path", ["/api/v1/tasks/instances/1", "/api/v2/tasks/1", "/api/v1/tasks/1"]
)
def test_aliases_show_the_same(ctx: Context, web: FlaskClient, ask: Ask, path: str) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")

    said = read(web.get(path, headers=basic("vera")))

    assert said["data"] == ask("GET", "/1")["data"]


def test_answers_look_as_described(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 4, "INSTALL_AGENT", rollout=Rollout(canary=1, confirm=True))
    play(ctx, {"10.9.0.1": REFUSED})

    for path, schema in (
        ("", schemas.TaskPage),
        ("/1", schemas.WrappedTask),
        ("/1/subtasks/1", schemas.SubtaskInstance),
        ("/1/subtasks/1/log", schemas.Log),
        ("/creators", schemas.Names),
    ):
        assert not schema(unknown=RAISE).validate(ask("GET", path)["data"])


def test_a_rollout_that_waits_shows_it_and_goes_on(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 4, "INSTALL_AGENT", rollout=Rollout(canary=1, confirm=True))
    play(ctx, {"10.9.0.1": "ok"})

    task = ask("GET", "/1")["data"]
    assert task["rollout"] == {"waves": [1, 3], "openWave": 0, "waitsForPerson": True}
    assert task["capabilities"]["confirm"] == {"allowed": True}
    assert task["status"] == "RUNNING"

    task = ask("POST", "/1/confirm?note=looks+good")["data"]

    assert task["rollout"] == {"waves": [1, 3], "openWave": 1, "waitsForPerson": False}
    assert [s["status"] for s in task["subtasks"]] == ["SUCCESSFUL", "READY"]
    assert ask("POST", "/1/confirm", 400)["error"]["code"] == "TSK10007"


# --- The log


def test_the_log_is_text_and_can_be_cut(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)
    ask("POST", "/1/subtasks/1/retry")

    whole = ask("GET", "/1/subtasks/1/log")["data"]

    parts = re.split(r"(#{12}\{\S*\}\{\S*\}#{12})", whole["log"])
    assert [re.search(r"\{(\S*?)\}", part)[1] for part in parts[1::2]] == ["EXECUTE", "RETRY"]
    assert whole["size"] == whole["nextOffset"] == len(whole["log"])
    assert whole["complete"] is False
    first = ask("GET", "/1/subtasks/1/log?limit=10")["data"]
    rest = ask("GET", f"/1/subtasks/1/log?offset={first['nextOffset']}")["data"]
    assert first["log"] + rest["log"] == whole["log"]
    assert ask("GET", "/1/subtasks/1/log?tail=1")["data"]["log"] == parts[-2] + "\n"
    assert ask("GET", "/1/subtasks/1/log?tail=1&offset=3", 400)["error"]["code"] == "COM10001"
    assert ask("GET", "/1/subtasks/1/log?offset=99999")["data"]["log"] == ""


def test_a_diagnosis_holds_the_graph_and_every_attempt(ctx: Context, web: FlaskClient) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, HALF)
    asker(web)("POST", "/1/subtasks/1/retry")

    with web.post(f"{TASKS}/1/downloadDiagnosis", headers=basic("vera")) as response:
        assert response.mimetype == "application/zip"
        assert response.headers["Content-Disposition"].startswith("attachment")
        archive = zipfile.ZipFile(io.BytesIO(response.data))

    assert archive.namelist() == [
        "task_info.txt",
        "subtask_1_1.log",
        "subtask_1_2.log",
        "subtask_2_1.log",
    ]
    lines = archive.read("task_info.txt").decode().splitlines()
    assert [line.split(", ")[0] for line in lines] == ["1", "2"]
    assert lines[1].endswith("upstreams: [1]")


# --- Operations: state by state


def bring(ctx: Context, state: str) -> None:
    """Task 1 with subtask 1 in that state; subtask 2 comes after it."""
    submit_stages(ctx, 1, "INSTALL_AGENT", "RESTART_AGENT")
    if state in ("RUNNING", "CANCELING"):
        claim_next(ctx)
    if state == "CANCELING":
        cancel_subtask(ctx, 1, 1, "bob")
    if state == "FAILED":
        play(ctx, {"10.9.0.1": REFUSED})
    if state == "SUCCESSFUL":
        play(ctx, {"10.9.0.1": "ok"})


STATES = ["READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL"]
TABLE = {
    # operation: the states of subtask 1 that allow it
    "/1/subtasks/1/retry": {"FAILED"},
    "/1/subtasks/1/skip": {"FAILED"},
    "/1/subtasks/1/cancel": {"READY", "RUNNING", "CANCELING"},
    "/1/subtasks/2/retry": set(),
    "/1/subtasks/2/skip": set(),
    "/1/subtasks/2/cancel": {"SUCCESSFUL"},  # it is READY then
    "/1/retry": {"FAILED"},
    "/1/rollback": {"FAILED"},
    "/1/abort": {"FAILED"},
    "/1/confirm": set(),
}


@pytest.mark.parametrize("state", STATES)
def test_each_operation_in_each_state(ctx: Context, ask: Ask, state: str) -> None:
    bring(ctx, state)
    before = ask("GET", "/1")["data"]
    assert next(s for s in before["subtasks"] if s["id"] == 1)["status"] == state

    for path, allowing in TABLE.items():
        if state in allowing:
            continue
        error = ask("POST", path, 400)["error"]
        assert error["code"] == "TSK10007", path
        assert re.search(
            r"RUNNING|READY|PENDING|FAILED|SUCCESSFUL|CANCELING|person", error["message"]
        )
    assert ask("GET", "/1")["data"] == before


@pytest.mark.parametrize(
    ("path", "state"), [(path, state) for path, states in TABLE.items() for state in sorted(states)]
)
def test_an_operation_that_is_allowed(ctx: Context, ask: Ask, path: str, state: str) -> None:
    bring(ctx, state)

    said = ask("POST", path, data=b"{not even json", content_type="application/json")

    is_silent = path.endswith(("/skip", "/cancel"))
    assert ("data" in said) is not is_silent


def test_capabilities_agree_with_what_happens(ctx: Context, ask: Ask) -> None:
    bring(ctx, "FAILED")
    task = ask("GET", "/1")["data"]

    for subtask in task["subtasks"]:
        for operation, may in subtask["capabilities"].items():
            if not may["allowed"]:
                ask("POST", f"/1/subtasks/{subtask['id']}/{operation}", 400)
    assert ask("GET", "/1")["data"] == task


def test_a_wave_behind_a_failed_canary_says_what_must_be_mended_first(
    ctx: Context, ask: Ask
) -> None:
    submit_stages(ctx, 3, "INSTALL_AGENT", rollout=Rollout(canary=1))
    play(ctx, {"10.9.0.1": REFUSED})

    canary, rest = (s["capabilities"]["retry"] for s in ask("GET", "/1")["data"]["subtasks"])

    assert canary == {"allowed": True}
    assert not rest["allowed"]
    assert "the canary failed on 1 host(s)" in rest["reason"]
    ask("POST", "/1/subtasks/2/retry", 400)


def test_a_retried_subtask_is_ready_once_more(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)
    before = ask("GET", "/1")["data"]["subtasks"][0]

    after = ask("POST", "/1/subtasks/1/retry")["data"]

    assert (after["status"], after["operation"]) == ("READY", "RETRY")
    assert after["runTime"] == before["runTime"] + 1 == 2
    assert after["startTime"] == before["startTime"]
    assert "finishTime" not in after
    assert after["hosts"] == {"total": 2, "success": 1, "pending": 1}
    assert ask("GET", "/1")["data"]["status"] == "RUNNING"
    assert [h["runTime"] for h in after["history"]] == [1, 2]


def test_a_refusal_names_the_state_and_what_would_do(ctx: Context, ask: Ask) -> None:
    bring(ctx, "READY")

    english = ask("POST", "/1/subtasks/1/retry", 400)["error"]["message"]
    chinese = ask("POST", "/1/subtasks/1/retry", 400, headers={"Accept-Language": "zh-CN"})
    task = ask("POST", "/1/rollback", 400)["error"]["message"]
    abort = ask("POST", "/1/abort", 400)["error"]["message"]
    may_abort = ask("GET", "/1")["data"]["capabilities"]["abort"]

    assert english == "Subtask instance 1 is READY; this operation needs FAILED."
    assert chinese["error"]["message"] == (
        "子任务实例 1 状态为 READY，该操作仅支持以下状态：FAILED。"
    )
    assert task == abort == "Task instance 1 is RUNNING; this operation needs FAILED."
    assert may_abort == {"allowed": False, "reason": "ABORT needs FAILED; it is RUNNING."}


def test_a_rollback_that_cannot_be_is_refused_early(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT", "UNINSTALL_AGENT")
    play(ctx, {"10.9.0.1": "ok"})
    play(ctx, {"10.9.0.1": REFUSED})

    assert ask("GET", "/1")["data"]["prohibitRollback"] is True
    assert ask("POST", "/1/rollback", 400)["error"]["code"] == "TSK10009"


def test_a_rollback_to_a_removed_package_says_what_to_add(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, {"10.9.0.1": "ok"})
    play(ctx, {"10.9.0.1": REFUSED})
    with transaction(ctx.engine) as session:
        session.scalars(select(Part)).first().before = {"release": {"version": "0.9.0"}}

    error = ask("POST", "/1/rollback", 400)["error"]

    assert error["code"] == "TSK10004"
    assert "0.9.0 on 10.9.0.1" in error["message"]
    assert "hostler package add" in error["message"]


def test_skip_lets_the_graph_go_on_and_says_who_and_why(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, HALF)

    assert "data" not in ask("POST", "/1/subtasks/1/skip?note=it+is+being+replaced")

    first = ask("GET", "/1/subtasks/1")["data"]
    assert (first["status"], first["operation"]) == ("SUCCESSFUL", "SKIP")
    assert first["hosts"] == {"total": 2, "success": 1, "ignored": 1}
    with reading(ctx.engine) as session:
        row = session.scalars(select(Audit).where(Audit.action == "task.skip")).one()
    assert (row.caller, row.outcome, row.target) == ("olga", "done", "subtask 1")
    assert row.details["note"] == "it is being replaced"


def test_abort_ends_the_task_for_good(ctx: Context, ask: Ask) -> None:
    bring(ctx, "FAILED")

    task = ask("POST", "/1/abort")["data"]

    assert (task["status"], task["aborted"]) == ("FAILED", True)
    assert not any(may["allowed"] for may in task["capabilities"].values())
    assert "aborted" in ask("POST", "/1/retry", 400)["error"]["message"]
    assert "aborted" in ask("POST", "/1/subtasks/1/retry", 400)["error"]["message"]


def test_many_are_retried_at_once_each_with_its_own_answer(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, HALF)

    named = ask("POST", "/1/subtasks/retry?subtaskInstanceIds=1,2,77")["data"]["contents"]
    again = ask("POST", "/1/subtasks/retry")["data"]["contents"]

    assert [(row["id"], row["accepted"]) for row in named] == [(1, True), (2, False), (77, False)]
    assert "READY" in named[1]["reason"]
    assert again == []
    assert ask("POST", "/1/subtasks/retry?subtaskInstanceIds=x", 400)["error"]["code"] == "COM10001"


# --- Who may, and in which order it is asked


@pytest.mark.parametrize("path", [*TABLE, "/1/subtasks/retry"])
def test_the_order_of_checks(ctx: Context, web: FlaskClient, path: str) -> None:
    bring(ctx, "READY")
    elsewhere = path.replace("/1", "/99", 1)

    assert read(web.post(TASKS + elsewhere), 401)["error"]["code"] == "IAM10000"
    wrong = basic("olga", "wrong password")
    assert read(web.post(TASKS + elsewhere, headers=wrong), 401)["error"]["code"] == "IAM10004"
    assert asker(web, "vera")("POST", elsewhere, 403)["error"]["code"] == "IAM11000"
    assert asker(web, "sam")("POST", path, 403)["error"]["code"] == "IAM11000"
    assert asker(web)("POST", elsewhere, 404)["error"]["code"] == "TSK10001"
    assert asker(web)("POST", elsewhere.replace("99", "x1"), 400)["error"]["code"] == "COM10001"
    if path in TABLE:  # /subtasks/retry could as well be one subtask
        assert asker(web)("GET", path, 405)["error"]["code"] == "COM10008"


@pytest.mark.parametrize("wrong", ["/log?offset=x", "/skip?note=" + 501 * "x"])
def test_a_wrong_parameter_is_said_only_of_what_is_there(
    ctx: Context, web: FlaskClient, wrong: str
) -> None:
    bring(ctx, "READY")
    method = "GET" if "log" in wrong else "POST"

    for nowhere in ("/99/subtasks/1", "/1/subtasks/99"):
        assert asker(web)(method, nowhere + wrong, 404)["error"]["code"] == "TSK10001"
    assert asker(web)(method, "/1/subtasks/1" + wrong, 400)["error"]["code"] == "COM10001"


def test_a_subtask_of_another_task_is_not_found(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    submit_stages(ctx, 1, "INSTALL_AGENT")

    for path in ("/log", "/retry", "/skip", "/cancel", ""):
        method = "GET" if path in ("/log", "") else "POST"
        error = ask(method, f"/1/subtasks/2{path}", 404)["error"]
        assert error["code"] == "TSK10001"
        assert "2" in error["message"]


def test_business_scope_hides_tasks(ctx: Context, web: FlaskClient) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    sam = asker(web, "sam")

    assert sam("GET", "")["data"]["contents"] == []
    for path in ("/1", "/1/subtasks/1", "/1/subtasks/1/log"):
        assert sam("GET", path, 403)["error"]["code"] == "IAM11000"


def test_every_change_leaves_a_row_refused_or_not(ctx: Context, web: FlaskClient) -> None:
    bring(ctx, "FAILED")

    asker(web, "vera")("POST", "/1/retry", 403)
    asker(web)("POST", "/1/subtasks/1/cancel", 400)
    asker(web)("POST", "/1/retry")

    with reading(ctx.engine) as session:
        rows = session.scalars(
            select(Audit).where(Audit.action.startswith("task.")).order_by(Audit.id)
        ).all()
    assert [(row.caller, row.action, row.outcome) for row in rows] == [
        ("vera", "task.retry", "refused"),
        ("olga", "task.cancel", "refused"),
        ("olga", "task.retry", "done"),
    ]
    assert rows[1].target == "subtask 1"


def test_no_stack_trace_on_request(web: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("app.api.ocp.routes.find_tasks", break_down)

    response = web.get(TASKS, headers=basic("olga") | {"X-ReturnStackTrace": "true"})

    said = read(response, 500)
    assert said["error"]["code"] == "COM10999"
    assert "secret detail" not in response.text
    assert "RuntimeError" not in response.text


# --- Many at once, and both languages at once


def test_of_forty_identical_retries_one_is_accepted(ctx: Context, web: FlaskClient) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)
    application, answers = web.application, []
    ready = threading.Barrier(40)

    def retry() -> None:
        client = application.test_client()
        client.get(TASKS, headers=basic("olga"))
        ready.wait()
        answers.append(client.post(f"{TASKS}/1/subtasks/1/retry", headers=basic("olga")))

    threads = [threading.Thread(target=retry) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    codes = [answer.status_code for answer in answers]
    assert codes.count(200) == 1
    assert codes.count(400) == 39
    assert {a.get_json()["error"]["code"] for a in answers if a.status_code == 400} == {"TSK10007"}
    [run] = [run for run in runs_of(ctx, 1) if run.status == "ready"]
    assert run.attempt == 2
    assert asker(web)("GET", "/1/subtasks/1")["data"]["runTime"] == 2


Nodeman = Callable[[str, Any], Any]


@pytest.fixture
def nodeman(ctx: Context, client: FlaskClient) -> Nodeman:
    def post(path: str, body: Any) -> Any:
        return client.post(path, json=body, headers=header()).get_json()["data"]

    return post


def test_both_languages_tell_one_truth(ctx: Context, ask: Ask, nodeman: Nodeman) -> None:
    submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, HALF)

    ask("POST", "/1/subtasks/1/retry")
    details = nodeman("/api/job/1/details/", {})
    assert {row["status"] for row in details["list"]} == {"PENDING", "SUCCESS"}
    play(ctx, {"10.9.0.2": REFUSED})

    nodeman("/api/job/1/retry/", {})
    tasks = ask("GET", "?sort=id,asc")["data"]["contents"]
    assert [(task["id"], task["operation"], task["jobId"]) for task in tasks] == [
        (1, "EXECUTE", 1),
        (2, "RETRY", 1),
    ]
    error = ask("POST", "/1/subtasks/1/retry", 400)["error"]
    assert error["code"] == "TSK10007"
    assert "2" in error["message"]
    play(ctx, {"10.9.0.2": "ok"})

    assert ask("GET", "/2")["data"]["status"] == "SUCCESSFUL"
    assert nodeman("/api/job/1/details/", {})["status"] == "SUCCESS"


def test_a_stale_claim_is_not_revived_by_a_retry(ctx: Context, ask: Ask) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    play(ctx, {"10.9.0.1": REFUSED})
    ask("POST", "/1/subtasks/1/retry")

    with reading(ctx.engine) as session:
        first = session.scalars(select(Run).order_by(Run.id)).first()
        subtask = session.get_one(Subtask, 1)
    assert first is not None
    assert claim_run(ctx, first.id, "late:1:b") is None
    assert subtask.live_run_id != first.id


# --- The description


def test_every_endpoint_is_described(web: FlaskClient) -> None:
    document = web.get("/openapi.json").get_json()

    for endpoint in endpoints.all:
        for path in endpoint.paths:
            name = path.replace("<task_id>", "{taskInstanceId}")
            name = name.replace("<subtask_id>", "{subtaskInstanceId}")
            for version in ("/api/v2", "/api/v1"):
                operation = document["paths"][version + name][endpoint.method.lower()]
                assert {"200", "400", "401", "403", "404"} <= operation["responses"].keys()
    assert "/api/job/{job_id}/events/" in document["paths"]
    assert json.dumps(document)
