"""Which hosts and which jobs a filter means; one that cannot be told means none."""

from typing import Any

import pytest
from sqlalchemy import select

from app.jobs.context import Context
from app.models.base import reading
from app.models.work import Job
from tests.api.conftest import Call
from tests.api.given import arrange

BUSINESS = {"bk_biz_id": 2}


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
    assert said["data"] == {"job_id": "", "ip_filter": []}


@pytest.mark.parametrize("named", [{"hosts": [{"bk_host_id": 1}]}, {"bk_host_id": [1]}])
def test_some_hosts_and_everything_exclude_each_other(
    ctx: Context, call: Call, named: dict[str, Any]
) -> None:
    arrange(ctx, {"hosts": 2, "played": {"10.9.0.1": "ok", "10.9.0.2": "ok"}})

    said = call("/api/job/operate/", everything(**named))

    assert said["code"] == 3800001
    assert said["errors"].keys() == {"exclude_hosts"}
    assert jobs(ctx) == [1]


def everything(**more: Any) -> dict[str, Any]:
    """A call that operates on all hosts that match."""
    return {"job_type": "RESTART_AGENT", "exclude_hosts": [], **more}


def jobs(ctx: Context) -> list[int]:
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Job.id)))
