"""Every benchmark by its name, in the order they are run."""

from tests.bench import (
    big_job,
    cpu,
    events,
    graphs,
    hand_off,
    over_ansible,
    over_community,
    starting,
    stopping,
)
from tests.bench.figure import Bench

MODULES = (
    big_job,
    events,
    graphs,
    hand_off,
    starting,
    cpu,
    over_ansible,
    over_community,
    stopping,
)
BENCHES: dict[str, Bench] = {bench.name: bench for module in MODULES for bench in module.BENCHES}
