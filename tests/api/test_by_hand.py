"""A host that is installed by hand: a command to paste, a program that reports, a token."""

import re
import subprocess
import sys
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.jobs.context import Context
from app.jobs.prepare import source_address
from tests.api.conftest import Call, a_call, a_row
from tests.api.ocp import asker


@pytest.fixture
def token(call: Call) -> str:
    """What the command of a waiting host holds."""
    row = {k: v for k, v in a_row().items() if k not in ("account", "port", "auth_type")}
    assert call("/api/job/install/", a_call({**row, "is_manual": True}))["result"]
    command = command_of(call)
    found = re.fullmatch(
        r"curl -sS 'http://hostler.test/backend/tools/install/\?token=([\w-]+)'"
        r" \| \$\(command -v sudo\) python3 -",
        command,
    )
    assert found, command
    return found[1]


def command_of(call: Call, at: str = "http://hostler.test") -> str:
    asked = call("/api/job/1/get_job_commands/", {"bk_host_id": 1}, base_url=at)
    (solution,) = asked["data"]["solutions"]
    assert solution["type"] == "shell"
    return str(solution["steps"][0]["contents"][0]["text"])


def status_of(call: Call) -> tuple[str, str]:
    data = call("/api/job/1/details/")["data"]
    return data["job_type"], data["list"][0]["status"]


def report(client: FlaskClient, token: str, *logs: dict[str, Any]) -> Any:
    return client.post("/backend/report_log/", json={"token": token, "logs": list(logs)})


def test_the_program_is_one_and_names_the_package(client: FlaskClient, token: str) -> None:
    answer = client.get(f"/backend/tools/install/?token={token}")

    assert answer.status_code == 200
    compile(answer.text, "installer", "exec")


def paste(client: FlaskClient, token: str) -> str:
    """What a person is told who pastes a command that is refused, and whose Python runs that."""
    answer = client.get(f"/backend/tools/install/?token={token}")
    assert answer.status_code == 403
    done = subprocess.run([sys.executable, "-"], input=answer.text, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def test_a_wrong_token_gets_a_program_that_only_says_so(client: FlaskClient, token: str) -> None:
    assert "get the command again" in paste(client, "nobodys")


@pytest.mark.parametrize("at", ["http://localhost:8080", "http://127.0.0.1:8080"])
def test_a_host_is_never_told_to_reach_us_over_its_own_loopback(
    call: Call, token: str, at: str
) -> None:
    ours = source_address(str(a_row()["inner_ip"]), 22)

    assert f"curl -sS 'http://{ours}:8080/backend/tools/install/" in command_of(call, at)


def test_the_report_ends_the_job(client: FlaskClient, call: Call, token: str) -> None:
    assert status_of(call) == ("MANUAL_INSTALL_AGENT", "RUNNING")

    release = {"version": "1.0.0"}
    done = {"step": "install", "status": "DONE", "log": "ok", "after": {"release": release}}
    answer = report(client, token, {"step": "check", "log": "fine"}, done)

    assert answer.get_json() == {}
    assert status_of(call) == ("MANUAL_INSTALL_AGENT", "SUCCESS")
    assert call("/api/job/1/get_job_commands/", {"bk_host_id": 1})["data"] == {"status": "SUCCESS"}


def test_a_failure_is_reported_with_what_happened(
    client: FlaskClient, call: Call, token: str
) -> None:
    report(client, token, {"status": "FAILED", "log": "no space left", "cause": "disk_full"})

    row = call("/api/job/1/details/")["data"]["list"][0]
    assert (row["status"], row["cause"]) == ("FAILED", "disk_full")
    (step,) = call("/api/job/1/log/", {"instance_id": row["instance_id"]})["data"]
    assert step["status"] == "FAILED"
    assert "no space left" in step["log"]
    assert call("/api/job/1/get_job_commands/", {"bk_host_id": 1})["data"] == {"status": "FAILED"}


def test_nothing_is_uninstalled_by_hand(call: Call, token: str) -> None:
    asked = {"bk_host_id": 1, "is_uninstall": True}

    answer = call("/api/job/1/get_job_commands/", asked)

    assert answer["code"] == 3800001
    assert "UNINSTALL_AGENT" in answer["message"]


def test_a_new_command_makes_the_old_one_worthless(
    client: FlaskClient, call: Call, token: str
) -> None:
    command_of(call)

    assert "replaced by a newer one" in paste(client, token)


def test_a_command_that_was_used_installs_nothing_again(client: FlaskClient, token: str) -> None:
    report(client, token, {"step": "install", "status": "DONE", "log": "ok"})

    assert "has been used" in paste(client, token)


def test_a_revoked_command_installs_nothing(client: FlaskClient, call: Call, token: str) -> None:
    assert call("/api/job/1/revoke/")["result"]

    assert "This command is over: stopped on request" in paste(client, token)
    said = report(client, token, {"status": "DONE", "log": "ok"}).get_json()
    assert (said["result"], said["code"]) == (False, 9900403)
    assert "This command is over" in said["message"]
    assert status_of(call) == ("MANUAL_INSTALL_AGENT", "FAILED")


def test_a_reader_gets_no_command(ctx: Context, call: Call, token: str) -> None:
    said = call("/api/job/1/get_job_commands/", {"bk_host_id": 1}, code="reader")

    assert said["code"] == 9900403


def test_a_revoked_host_says_that_somebody_may_have_begun(call: Call, token: str) -> None:
    assert call("/api/job/1/revoke/")["result"]

    row = call("/api/job/1/details/")["data"]["list"][0]
    assert (row["status"], row["cause"]) == ("FAILED", "cancelled")
    assert "nobody waits for the install command any more" in row["reason"]
    assert "look at the host" in row["reason"]
    (step,) = call("/api/job/1/log/", {"instance_id": row["instance_id"]})["data"]
    assert row["reason"] in step["log"]


def test_while_a_person_is_at_it_the_subtask_runs(client: FlaskClient, token: str) -> None:
    ask = asker(client)

    whole = ask("GET", "/1")["data"]

    (subtask,) = whole["subtasks"]
    assert (whole["status"], subtask["status"], subtask["runTime"]) == ("RUNNING", "RUNNING", 1)
    assert whole["startTime"]
    assert subtask["startTime"]
    assert "finishTime" not in subtask
    assert "executor" not in subtask


def test_a_subtask_a_person_is_at_can_be_cancelled_and_retried(
    client: FlaskClient, token: str
) -> None:
    ask = asker(client)

    ask("POST", "/1/subtasks/1/cancel?note=wrong+host")
    cancelled = ask("GET", "/1/subtasks/1")["data"]
    again = ask("POST", "/1/subtasks/1/retry")["data"]

    assert (cancelled["status"], cancelled["operation"]) == ("FAILED", "CANCEL")
    assert cancelled["finishTime"]
    assert (again["status"], again["operation"], again["runTime"]) == ("RUNNING", "RETRY", 2)
    assert "finishTime" not in again
    assert client.get(f"/backend/tools/install/?token={token}").status_code == 403


@pytest.mark.parametrize(
    "after",
    ["1.0.0", [1], {"release": "1.0.0"}, {"cpu_arch": {"x": 1}}, {"release": {"version": [1]}}],
)
def test_a_report_of_another_shape_is_refused_and_the_host_waits_on(
    client: FlaskClient, call: Call, token: str, after: Any
) -> None:
    said = report(client, token, {"status": "DONE", "after": after}).get_json()

    assert (said["result"], said["code"]) == (False, 3800001)
    assert said["message"].startswith("logs.0.after")
    assert status_of(call) == ("MANUAL_INSTALL_AGENT", "RUNNING")


def test_the_last_words_of_an_agent_may_be_of_any_kind(
    client: FlaskClient, call: Call, token: str
) -> None:
    report(client, token, {"status": "FAILED", "log": "core \x00\ud800 dumped"})

    row = call("/api/job/1/details/")["data"]["list"][0]
    assert (row["status"], row["reason"]) == ("FAILED", "core \ufffd\ufffd dumped")


def test_a_report_too_deep_to_read_is_refused(client: FlaskClient, token: str) -> None:
    deep = "[" * 900 + "]" * 900
    body = f'{{"token": "{token}", "logs": [], "more": {deep}}}'

    said = client.post("/backend/report_log/", data=body, content_type="application/json")

    assert said.get_json()["code"] == 3800001
