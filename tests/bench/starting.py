"""From submit to the first task on a host, on an idle worker.

One lab host, a job on it again and again. The time is from the job's creation, as its row has it,
to the moment Ansible itself gives the first task of the run, so its own start is in it.
"""

import statistics
from collections.abc import Iterator

from tests.bench.figure import Bench, Figure, Profile, Result, spread
from tests.bench.place import Place, installation

START = Figure("submit_to_first_task", "s", 1)


def measure(profile: Profile, place: Place) -> Iterator[Result]:
    (host,) = hosts = place.hosts(1)
    seconds = []
    with installation() as asked:
        for _ in range(profile.size(5, 20)):
            job_id = asked.install(hosts)
            asked.must_succeed(job_id)
            job = asked.installation.job(job_id)
            part = asked.installation.parts(job_id)[host.address]
            assert part.started_at
            seconds.append((part.started_at - job.created_at).total_seconds())
    yield Result(START, statistics.median(seconds), spread(seconds))


BENCHES = (Bench("start", (START,), measure, needs_lab=True),)
