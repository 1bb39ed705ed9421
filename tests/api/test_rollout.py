"""Stages and rollouts are further words of a submission; what does not add up is refused."""

from typing import Any

import pytest
from sqlalchemy import select

from app.jobs.context import Context
from app.models.base import reading
from app.models.work import Job, Subscription, Subtask, Target, Task
from tests.api.conftest import Call, a_call, a_row
from tests.api.given import play

ROWS = [a_row(number) for number in range(1, 6)]


def test_further_stages_become_subtasks_behind_the_first(call: Call, ctx: Context) -> None:
    then = [{"job_type": "RELOAD_AGENT", "data_path": "/srv/data"}, {"job_type": "RESTART_AGENT"}]

    answer = call("/api/job/install/", a_call(*ROWS, then=then))

    assert answer["result"], answer
    with reading(ctx.engine) as session:
        subtasks = session.scalars(select(Subtask).order_by(Subtask.series)).all()
        stages = session.scalars(select(Subscription)).one().stages
    assert [subtask.job_type for subtask in subtasks] == [
        "INSTALL_AGENT",
        "RELOAD_AGENT",
        "RESTART_AGENT",
    ]
    assert stages[1]["values"] == {"data_path": "/srv/data"}


def test_the_log_of_a_host_that_failed_later_says_so(call: Call, ctx: Context) -> None:
    call("/api/job/install/", a_call(ROWS[0], then=[{"job_type": "RESTART_AGENT"}]))
    address = ROWS[0]["inner_ip"]
    play(ctx, {address: "ok"})
    play(ctx, {address: ["connection_lost", "The connection broke."]})
    row = call("/api/job/1/details/")["data"]["list"][0]

    log = call("/api/job/1/log/", {"instance_id": row["instance_id"]})["data"]

    assert row["status"] == "FAILED"
    failed = [entry for entry in log if entry["status"] == "FAILED"]
    assert "The connection broke." in failed[0]["log"]
    assert log[0]["status"] == "SUCCESS"


def test_a_rollout_puts_every_host_into_a_wave(call: Call, ctx: Context) -> None:
    rollout = {"canary": 1, "batches": ["50%", "100%"], "max_failed": "20%", "confirm": False}

    answer = call("/api/job/install/", a_call(*ROWS, rollout=rollout))

    assert answer["result"], answer
    with reading(ctx.engine) as session:
        waves = session.scalars(select(Target.wave).order_by(Target.id)).all()
        task = session.scalars(select(Task)).one()
    assert waves == [0, 1, 1, 2, 2]
    assert task.waves == [1, 2, 2]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rollout": {"batches": ["50%"]}}, "leaves hosts out"),
        ({"rollout": "all"}, "rollout is an object"),
        ({"then": [{"job_type": "INSTALL_AGENT"}]}, "only one stage"),
        ({"then": [{"job_type": "REMOVE_AGENT"}]}, "cannot follow"),
        ({"then": [{"job_type": "DANCE_AGENT"}]}, "DANCE_AGENT"),
        ({"then": "RESTART_AGENT"}, "then"),
    ],
)
def test_what_does_not_add_up_is_refused_and_nothing_is_written(
    call: Call, ctx: Context, more: dict[str, Any], says: str
) -> None:
    answer = call("/api/job/install/", a_call(*ROWS, **more))

    assert answer["code"] == 3800001, answer
    assert says in str(answer["message"]) + str(answer.get("errors"))
    with reading(ctx.engine) as session:
        assert session.scalars(select(Job)).all() == []
