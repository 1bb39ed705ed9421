"""What ansible-runner said of one host, said again of others: runs that are played in the database.

recorded.jsonl holds the raw events of a real INSTALL_AGENT on a lab host.
"""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.access.redact import Redactor
from app.automation.events import Event, Tally, read
from app.domain.states import RunStatus
from app.jobs.claim import Claim, claim_run
from app.jobs.context import Context
from app.jobs.progress import write_events
from app.jobs.settle import settle_run
from app.models.base import reading, transaction
from app.models.work import Run

RECORDED = Path(__file__).with_name("recorded.jsonl")
HOST = "host_1"
OWNER = "bench:1:played"
BATCH = 200


@cache
def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def raw_events(host_id: int, is_failing: bool = False) -> Iterator[dict[str, Any]]:
    """The events of that host as if it had been the one."""
    for raw in recorded():
        event = copy.deepcopy(raw)
        event["created"] = datetime.now(UTC).isoformat()
        data = event["event_data"]
        data["host"] = f"host_{host_id}"
        event["stdout"] = event["stdout"].replace(HOST, data["host"])
        if is_failing and event["event"] == "runner_on_ok":
            _make_fail(event)
        yield event


def _make_fail(event: dict[str, Any]) -> None:
    event["event"] = "runner_on_failed"
    result = event["event_data"]["res"]
    result["failed"], result["cause"] = True, "agent_not_ready"
    result["msg"] = result["reason"] = "The agent runs but did not become ready."
    result["phases"][-1]["status"] = "failed"


def claim_next(ctx: Context, newest: bool = False) -> Claim:
    """Take a run that waits, the oldest or one of the newest job."""
    order = [Run.job_id.desc()] if newest else []
    with reading(ctx.engine) as session:
        query = select(Run.id).where(Run.status == RunStatus.READY).order_by(*order, Run.id)
        run_id = session.scalars(query.limit(1)).one()
    claim = claim_run(ctx, run_id, OWNER)
    assert claim
    return claim


def play_next(
    ctx: Context, *, newest: bool = False, failing: Callable[[int], bool] = lambda _host: False
) -> int:
    """Play a run that waits: all its events, then its end; how many hosts it had."""
    claim = claim_next(ctx, newest)
    tally, events = Tally(frozenset(claim.parts)), list[Event]()
    for host in claim.parts:
        events += [event for raw in raw_events(host, failing(host)) for event in read(raw)]
    for event in events:
        tally.add(event)
    for start in range(0, len(events), BATCH):
        with transaction(ctx.engine) as session:
            write_events(session, claim, Redactor(["correct horse"]), events[start : start + BATCH])
    assert settle_run(ctx, claim, tally.verdict("failed", ""))
    return len(claim.parts)
