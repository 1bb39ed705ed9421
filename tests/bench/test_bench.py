"""Every figure that is written about is measured, and the other way round."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.automation.events import HostResult, HostStarted, Output, read
from app.domain.catalogue import get_job_type
from tests.bench.benches import BENCHES, MODULES
from tests.bench.figure import Figure, Result, percentile
from tests.bench.meter import CpuMeter
from tests.bench.played import raw_events

README = Path(__file__).with_name("README.md")
ROW = re.compile(
    r"^\| `(?P<figure>[a-z0-9_]+)` \| `(?P<bench>[a-z-]+)` \| (?P<limit>[^|]+) \|", re.M
)


def test_every_figure_of_the_readme_is_measured_and_every_measurement_is_in_it() -> None:
    written = {(row["bench"], row["figure"], row["limit"].strip()) for row in _rows()}
    measured = {
        (bench.name, figure.name, figure.limit)
        for bench in BENCHES.values()
        for figure in bench.figures
    }
    assert written == measured


def test_no_two_measurements_share_a_name() -> None:
    benches = [bench for module in MODULES for bench in module.BENCHES]
    figures = [figure.name for bench in benches for figure in bench.figures]
    assert len(BENCHES) == len(benches)
    assert len(set(figures)) == len(figures)


def test_every_measurement_says_how_it_is_made() -> None:
    for module in MODULES:
        assert module.__doc__
        assert len(module.__doc__.split()) > 30, module.__name__


def test_a_budget_is_kept_or_not() -> None:
    assert Figure("wall", "s", 2).is_kept(2.0)
    assert not Figure("wall", "s", 2).is_kept(2.1)
    assert Figure("rate", "/s", 5000, at_least=True).is_kept(5000)
    assert not Figure("rate", "/s", 5000, at_least=True).is_kept(4999)


def test_a_result_is_one_line_a_program_can_read() -> None:
    line = Result(Figure("wall", "s", 2), 1.5, {"hosts": 3}).line
    said = json.loads(line)
    assert "\n" not in line
    assert said["figure"] == "wall"
    assert said["value"] == 1.5
    assert said["budget"] == "≤ 2 s"
    assert said["kept"] is True
    assert said["seen"] == {"hosts": 3}


def test_the_99th_percentile_of_two_hundred_is_the_second_worst_but_one() -> None:
    values = [float(n) for n in range(200)]
    assert percentile(values, 0.99) == 197.0
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize("is_failing", [False, True])
def test_the_recorded_install_is_one_that_the_engine_understands(is_failing: bool) -> None:
    events = [event for raw in raw_events(4711, is_failing) for event in read(raw)]
    started, result, output = events
    assert isinstance(started, HostStarted)
    assert isinstance(result, HostResult)
    assert isinstance(output, Output)
    assert {event.host_id for event in events} == {4711}
    assert result.is_bad is is_failing
    keys = [phase["key"] for phase in result.result["phases"]]
    assert keys == [step.key for step in get_job_type("INSTALL_AGENT").steps]


def test_the_meter_counts_what_was_started_in_it_and_nothing_else() -> None:
    burn = "import time\nwhile time.process_time() < {}: pass"
    meter = CpuMeter("test")
    try:
        with meter.counting():
            inside = subprocess.Popen([sys.executable, "-c", burn.format(0.3)])
        subprocess.run([sys.executable, "-c", burn.format(1.5)], check=True)
        if meter.tree:
            inside.wait()
        else:
            os.waitid(os.P_PID, inside.pid, os.WEXITED | os.WNOWAIT)
        assert 0.28 <= meter.seconds() < 1.5  # told in hundredths, each part rounded down
    finally:
        inside.wait()
        meter.close()


def _rows() -> list[re.Match[str]]:
    rows = list(ROW.finditer(README.read_text()))
    assert rows
    return rows
