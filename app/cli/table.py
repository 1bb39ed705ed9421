"""A job on a terminal: a bar, its counts, and a row per host."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

COLOURS = {
    "SUCCESS": "green", "FAILED": "red", "PART_FAILED": "red", "RUNNING": "blue",
    "PENDING": "dim", "IGNORED": "yellow", "TERMINATED": "yellow",
}  # fmt: skip
FINAL = frozenset({"SUCCESS", "FAILED", "PART_FAILED"})
ORDER = ("FAILED", "RUNNING", "PENDING", "IGNORED", "SUCCESS")  # what needs a person comes first
MOST_ROWS = 40  # of a table that is drawn again and again
BAR_WIDTH = 60
PLAIN_WIDTH = 140  # where nobody tells how wide the page is

Details = Mapping[str, Any]


def open_console() -> Console:
    """The terminal, or a page wide enough to be read by a program."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def is_final(details: Details) -> bool:
    """Whether nothing more will happen to this job by itself."""
    return details["status"] in FINAL


def draw(details: Details, most: int | None = None) -> RenderableType:
    """The whole job; at most so many host rows."""
    return Group(_headline(details), _bar(details), _hosts(details, most))


def counts(details: Details) -> str:
    """How many hosts stand where, in words."""
    statistics = details["statistics"]
    said = [
        f"{statistics[f'{name}_count']} {name}"
        for name in ("success", "failed", "running", "pending", "ignored")
        if statistics.get(f"{name}_count")
    ]
    return ", ".join(said) or "no hosts"


def _headline(details: Details) -> Text:
    title = details.get("job_type_display") or details["job_type"]
    return Text.assemble(
        f"Job {details['job_id']}  {title}  ", _status(details["status"]), f"  {counts(details)}"
    )


def _bar(details: Details) -> Text:
    """A line as long as the bar, in the colours of what became of the hosts."""
    statistics = details["statistics"]
    total = statistics["total_count"] or 1
    bar = Text()
    for status in ("SUCCESS", "FAILED", "IGNORED", "RUNNING", "PENDING"):
        share = round(BAR_WIDTH * statistics[f"{status.lower()}_count"] / total)
        bar.append("━" * share, COLOURS[status])
    return bar


def _hosts(details: Details, most: int | None) -> RenderableType:
    rows = sorted(details["list"], key=lambda row: ORDER.index(row["status"]))
    table = Table(
        "Host", "Status", "Step", "Cause", "Reason, and what to do", box=None, padding=(0, 1)
    )
    for row in rows[:most]:
        table.add_row(
            clean(row["ip"]),
            _status(row["status"]),
            clean("" if row["status"] == "SUCCESS" else row.get("step") or ""),
            clean(row.get("cause") or ""),
            clean(row.get("reason") or (row["status_display"] if row.get("filter_host") else "")),
        )
    if most is None or len(rows) <= most:
        return table
    return Group(table, Text(f" … and {len(rows) - most} more hosts", style="dim"))


def _status(status: str) -> Text:
    return Text(status, style=COLOURS.get(status, ""))


def clean(text: str) -> Text:
    """What a host said, without anything that could move the cursor."""
    return Text(
        "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    )
