"""How long until a cancelled job is proved stopped, and until an accident has become the truth.

A job on 20 hosts is held in its middle: on every host the module waits for an agent that never
becomes ready. Cancel: from the call that revokes the whole job until its row says that it is over,
which it does only when every host has answered that nothing of the run is left on it. Crash: from
kill -9 of the work-horse until the job is over and every host told to be lost. Medians.
"""

import os
import signal
import statistics
import time
from collections.abc import Iterator

from tests.bench.figure import Bench, Figure, Profile, Result, spread
from tests.bench.place import Asked, Place, installation
from tests.chaos.middle import Middle

CANCEL = Figure("cancel_to_stopped", "s", 10)
CRASH = Figure("crash_to_truth", "s", 30)
HOSTS = 20
WITHIN = 120


def measure(profile: Profile, place: Place) -> Iterator[Result]:
    hosts = place.hosts(HOSTS)
    with installation() as asked:
        for figure, end in ((CANCEL, _cancel), (CRASH, _crash)):
            seconds = []
            for _ in range(profile.size(3, 10)):
                place.reset(hosts)
                middle = Middle(asked.installation, hosts)
                began = time.monotonic()
                end(asked, middle)
                asked.installation.finish(middle.job, WITHIN)
                seconds.append(time.monotonic() - began)
            yield Result(figure, statistics.median(seconds), {"hosts": HOSTS, **spread(seconds)})


def _cancel(asked: Asked, middle: Middle) -> None:
    asked.call(f"/api/job/{middle.job}/revoke/", {})


def _crash(asked: Asked, middle: Middle) -> None:
    os.kill(asked.installation.horse_of(middle.run), signal.SIGKILL)


BENCHES = (Bench("stopping", (CANCEL, CRASH), measure, needs_lab=True),)
