"""From a subtask's end to the next one in a worker's hand.

One job whose hosts come one after the other, each wave waiting for the one before, with two
workers, so that one is always idle. The hosts' logins are wiped before the first wave is sent: each
run is claimed, prepared and settled as any other, but ends before Ansible would begin, which no
hand-off waits for. Measured is from `finished_at` of a run, taken before its settling is
committed, to `started_at` of the next, taken when a work-horse claims it. Everything has started,
and both workers are idle, before the first wave: what a start costs is no hand-off's.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from rq import Worker
from rq.worker import WorkerStatus
from sqlalchemy import delete

from app.domain.rollout import Rollout
from app.jobs.submit import submit_job
from app.models.access import Credential
from app.models.base import transaction
from app.queue import WorkQueue
from tests.bench.events import a_job
from tests.bench.figure import Bench, Figure, Profile, Result, percentile, spread
from tests.bench.place import Place, installation
from tests.lab.installation import wait_for

HAND_OFF = Figure("hand_off_p99", "ms", 100)
WAVES = 100  # a rollout's batches are whole percents


def measure(profile: Profile, _place: Place) -> Iterator[Result]:
    seconds: list[float] = []
    for _ in range(profile.size(2, 5)):
        seconds += _one_job()
    yield Result(HAND_OFF, 1000 * percentile(seconds, 0.99), spread(seconds, 1000))


def _one_job() -> Iterator[float]:
    rollout = Rollout(batches=tuple(range(1, WAVES + 1)))
    with installation(workers=2, standing_access="false") as asked:
        here = asked.installation
        queue = here.ctx.queue
        wait_for(lambda: _idle_workers(queue) == 2, lambda: f"{_idle_workers(queue)} idle workers")
        unheard = replace(here.ctx, queue=WorkQueue(f"unix://{here.folder}/nobody"))
        job_id = submit_job(unheard, replace(a_job(WAVES), rollout=rollout)).job_id
        with transaction(here.ctx.engine) as session:
            session.execute(delete(Credential))
        queue.send(run.id for run in here.runs(job_id))
        here.finish(job_id, 600)
        for before, after in itertools.pairwise(here.runs(job_id)):
            assert before.finished_at
            assert after.started_at
            yield (after.started_at - before.finished_at).total_seconds()


def _idle_workers(queue: WorkQueue) -> int:
    workers = Worker.all(connection=queue.connection, serializer=queue.rq.serializer)
    return sum(worker.get_state() == WorkerStatus.IDLE for worker in workers)


BENCHES = (Bench("hand-off", (HAND_OFF,), measure),)
