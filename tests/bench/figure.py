"""What a benchmark is, and what one says when it has been run."""

import json
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.bench.pace import measure_pace
from tests.bench.place import Place


@dataclass(frozen=True)
class Figure:
    """A number and its budget, if it has one; `at_least` when more is better."""

    name: str
    unit: str
    budget: float | None = None
    at_least: bool = False

    def is_kept(self, value: float) -> bool:
        if self.budget is None:
            return True
        return value >= self.budget if self.at_least else value <= self.budget

    @property
    def limit(self) -> str:
        if self.budget is None:
            return "none"
        return f"{'≥' if self.at_least else '≤'} {self.budget:g} {self.unit}".strip()


@dataclass(frozen=True)
class Result:
    """One figure as it was measured, and what was seen beside it."""

    figure: Figure
    value: float
    seen: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=measure_pace)  # of the machine, just now

    @property
    def line(self) -> str:
        """The result as one line of JSON."""
        said = {
            "figure": self.figure.name,
            "value": round(self.value, 4),
            "unit": self.figure.unit,
            "budget": self.figure.limit,
            "kept": self.figure.is_kept(self.value),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "load": [round(load, 1) for load in os.getloadavg()],
            "pace": self.pace,
            "seen": self.seen,
        }
        return json.dumps(said, ensure_ascii=False)


Measure = Callable[["Profile", Place], Iterator[Result]]


@dataclass(frozen=True)
class Bench:
    """One measurement: which figures it gives, and how it is made."""

    name: str
    figures: tuple[Figure, ...]
    measure: Measure
    needs_lab: bool = False
    only_named: bool = False  # too large for a run of everything


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much is measured: the documented sizes, or sizes for a small busy machine."""

    is_full: bool = False
    hosts: int | None = None  # said on the command line, wins over both

    def size(self, quick: int, full: int) -> int:
        return full if self.is_full else quick

    def lab_size(self, quick: int, full: int) -> int:
        return self.hosts or self.size(quick, full)

    def describe(self) -> dict[str, Any]:
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float], factor: float = 1.0, digits: int = 2) -> dict[str, float]:
    """How values lie, in words a reader knows."""
    return {
        "median": round(statistics.median(values) * factor, digits),
        "p99": round(percentile(values, 0.99) * factor, digits),
        "worst": round(max(values) * factor, digits),
        "count": len(values),
    }
