"""A job of 10 000 hosts over HTTP: submitting it, and looking at a page of it.

No worker runs, as nothing is behind those addresses. Every host is new and brings its password in
plain text. Submitting is timed at the client, from the first byte sent to the answer read; memory
is the peak of the API process above what it had before. Then a part of the job is played in the
database, half of those hosts failing, and pages of 50 from all over it are asked for. `cpu` is what
the API process used for one request, which other work on the machine hardly changes.
"""

import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from app.jobs.context import Context
from tests.bench.figure import Bench, Figure, Profile, Result, percentile, spread
from tests.bench.place import Asked, Place, host_row, installation
from tests.bench.played import play_next

SUBMIT = Figure("submit_10000", "s", 2)
MEMORY = Figure("submit_10000_memory", "MB", 300)
DETAILS = Figure("details_page_p99", "ms", 100)
RESULTS = Figure("task_result_page_p99", "ms", 100)

HOSTS = 10_000
PAGE = 50
REQUESTS = 200


def measure(profile: Profile, place: Place) -> Iterator[Result]:
    with installation(workers=0) as asked:
        asked.call("/api/job/job_list/", {})  # the first call of a process loads what it needs
        api = api_process(asked)
        before = api.memory_info().rss
        _forget_peak(api)
        wall, cpu = [], []
        for number in range(profile.size(2, 5)):
            seconds, used, job_id = _submit(asked, number, api)
            wall.append(seconds)
            cpu.append(used)
        growth = (_peak(api) - before) / 1e6
        seen = {"hosts": HOSTS, "wall": spread(wall), "api_cpu": spread(cpu)}
        yield Result(SUBMIT, statistics.median(wall), seen)
        yield Result(MEMORY, growth, {"before": round(before / 1e6), "submits": len(wall)})
        played = _play(asked.installation.ctx, profile.size(10, 100))
        yield from _look(asked, job_id, played)


def _submit(asked: Asked, number: int, api: psutil.Process) -> tuple[float, float, int]:
    rows = [host_row(f"10.{number + 1}.{n // 250}.{n % 250 + 1}") for n in range(HOSTS)]
    body = json.dumps({"job_type": "INSTALL_AGENT", "hosts": rows}).encode()
    del rows
    used, began = sum(api.cpu_times()[:2]), time.monotonic()
    job_id = asked.call("/api/job/install/", body)["job_id"]
    return time.monotonic() - began, sum(api.cpu_times()[:2]) - used, job_id


def _play(ctx: Context, runs: int) -> int:
    """So many slices of the newest job get their results; how many hosts that were."""
    return sum(play_next(ctx, newest=True, failing=lambda host: host % 2 == 0) for _ in range(runs))


def _look(asked: Asked, job_id: int, played: int) -> Iterator[Result]:
    subscription = asked.installation.job(job_id).subscription_id
    chance = random.Random(1)

    def details() -> Any:
        page = chance.randrange(1, HOSTS // PAGE + 1)
        said = asked.call(f"/api/job/{job_id}/details/", {"page": page, "pagesize": PAGE})
        assert len(said["list"]) == PAGE

    def results() -> Any:
        page = chance.randrange(1, HOSTS // PAGE + 1)
        body = {"subscription_id": subscription, "page": page, "pagesize": PAGE}
        said = asked.call("/backend/api/subscription/task_result/", body)
        assert len(said["list"]) == PAGE

    for figure, ask in ((DETAILS, details), (RESULTS, results)):
        seconds, cpu = timed(asked, ask, REQUESTS)
        seen = {"page": PAGE, "played_hosts": played, "cpu": cpu, **spread(seconds, 1000)}
        yield Result(figure, 1000 * percentile(seconds, 0.99), seen)


def timed(asked: Asked, ask: Callable[[], Any], times: int) -> tuple[list[float], float]:
    """How long each of so many requests takes, and the API's CPU for one in milliseconds."""
    ask()  # not counted: the first one loads what all need
    seconds = []
    gc.disable()  # the client's own pauses are not the answer's
    used = sum(api_process(asked).cpu_times()[:2])
    for _ in range(times):
        began = time.monotonic()
        ask()
        seconds.append(time.monotonic() - began)
    gc.enable()
    used = sum(api_process(asked).cpu_times()[:2]) - used
    return seconds, round(1000 * used / times, 1)


def api_process(asked: Asked) -> psutil.Process:
    """The process that answers: the one below gunicorn's arbiter."""
    (arbiter,) = [
        child
        for child in psutil.Process(asked.pid).children()
        if "app.wsgi:api" in " ".join(child.cmdline())
    ]
    (worker,) = arbiter.children()
    return worker


def _forget_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) * 1024


BENCHES = (Bench("submit", (SUBMIT, MEMORY, DETAILS, RESULTS), measure),)
