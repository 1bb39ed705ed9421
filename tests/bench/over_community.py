"""The same install the way playbooks in the field do it: wall and CPU of Hostler over theirs.

community/install.yml is an idiomatic play of fourteen tasks with facts, a user, directories, an
archive, templates, a handler, systemd and checks. It is run by `ansible-playbook` with Hostler's
own inventory of the same hosts (forks, pipelining, interpreter), with shared connections and facts
as a play of many tasks needs them, and against the same package listener. CPU is that of everything
it starts; for Hostler everything is counted as in `cpu`. Hosts are reset in between.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Bench, Figure, Profile, Result
from tests.bench.meter import CpuMeter
from tests.bench.over_ansible import play_bare, play_of
from tests.bench.place import Place, installation

WALL = Figure("wall_over_community", "", 0.083)
CPU = Figure("cpu_over_community", "")
FOR_MANY_TASKS = {
    "ANSIBLE_INJECT_FACT_VARS": "true",
    "ANSIBLE_SSH_EXTRA_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
}
PLAYBOOK = Path(__file__).with_name("community") / "install.yml"


def measure(profile: Profile, place: Place) -> Iterator[Result]:
    hosts = place.hosts(profile.lab_size(20, 50))
    with installation() as asked:
        before, began = asked.meter.seconds(), time.monotonic()
        job_id = asked.install(hosts)
        asked.must_succeed(job_id)
        ours = time.monotonic() - began, asked.meter.seconds() - before
        place.reset(hosts)
        meter = CpuMeter("community")
        try:
            with meter.counting():
                wall = play_bare(play_of(asked.ctx, job_id), PLAYBOOK, FOR_MANY_TASKS)
            theirs = wall, meter.seconds()
        finally:
            meter.close()
    seen = {"hosts": len(hosts)}
    for figure, our, their in zip((WALL, CPU), ours, theirs, strict=True):
        said = {"hostler_seconds": round(our, 1), "community_seconds": round(their, 1)}
        yield Result(figure, our / their, seen | said)


BENCHES = (Bench("community", (WALL, CPU), measure, needs_lab=True),)
