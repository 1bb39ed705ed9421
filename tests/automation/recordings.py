"""What Ansible once said, as a stand-in for a run; tests/automation/record.py records it again."""

import json
from pathlib import Path
from typing import Any

from app.automation.events import Event, Outcome, Tally, Verdict, read

RECORDINGS = Path(__file__).parent / "recordings"


def raw_events(name: str) -> list[dict[str, Any]]:
    text = (RECORDINGS / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def events(name: str) -> list[Event]:
    return [event for raw in raw_events(name) for event in read(raw)]


def verdict(said: list[Event], *limit: int, outcome: Outcome = "failed") -> Verdict:
    tally = Tally(frozenset(limit or (1, 2)))
    for event in said:
        tally.add(event)
    return tally.verdict(outcome, "")
