"""Controller CPU per host of INSTALL_AGENT, with everything counted.

The whole `hostler up` lives in a cgroup: API, database, workers, RQ, ansible, ssh, the package
listener and Redis. Counted is from the submitting call until the job is settled and its processes
are gone, with a client looking at the job every five seconds, as bk-nodeman's do. Every connection
is a new one. The lab hosts, which share the machine, live in cgroups of their own. There is one
worker, as they need the cores too: with two hundred of them at work at once nothing else would come
to its turn.
"""

import time
from collections.abc import Iterator
from typing import Any

from tests.bench.figure import Bench, Figure, Profile, Result
from tests.bench.meter import cpu_by_role
from tests.bench.place import Asked, Place, installation

PER_HOST = Figure("cpu_per_host", "ms", 90)
SPARED = 0.03
LOOK = 5.0  # seconds between two looks of the client
GROWTH = Figure("cpu_growth", "", 1.10)


def measure(profile: Profile, place: Place) -> Iterator[Result]:
    hosts = place.hosts(profile.lab_size(50, 200))
    with installation(workers=1) as asked:
        value, seen = install(asked, hosts)
    yield Result(PER_HOST, value, seen)


def measure_growth(profile: Profile, place: Place) -> Iterator[Result]:
    """The same on few hosts and on ten times (quick: four times) as many."""
    many = profile.lab_size(100, 500)
    few = many // (10 if profile.is_full else 4)
    values, seen = {}, {}
    for count in (few, many):
        hosts = place.hosts(count)
        with installation(workers=1) as asked:
            values[count], seen[str(count)] = install(asked, hosts)
    yield Result(GROWTH, values[many] / values[few], seen)


def install(asked: Asked, hosts: list[Any]) -> tuple[float, dict[str, Any]]:
    """Install once; milliseconds of CPU per host, and where they went."""
    _settle_down(asked)
    before, roles, began = asked.meter.seconds(), cpu_by_role(asked.pid), time.monotonic()
    job_id = asked.install(hosts)
    failed = asked.must_succeed(job_id, SPARED, LOOK)
    _settle_down(asked)
    used = asked.meter.seconds() - before
    shares = {k: v - roles.get(k, 0.0) for k, v in cpu_by_role(asked.pid).items()}
    return 1000 * used / len(hosts), {
        "hosts": len(hosts),
        "failed": failed,
        "cpu_seconds": round(used, 2),
        "wall_seconds": round(time.monotonic() - began, 1),
        "ms_per_host_by_role": {k: round(1000 * v / len(hosts), 1) for k, v in shares.items()},
        "counted_by": asked.meter.kind,
    }


def _settle_down(asked: Asked) -> None:
    """Until no run is in hand any more; a work-horse ends a little after its job."""
    while not asked.is_idle():
        time.sleep(0.1)
    time.sleep(0.5)


BENCHES = (
    Bench("cpu", (PER_HOST,), measure, needs_lab=True),
    Bench("growth", (GROWTH,), measure_growth, needs_lab=True),
)
