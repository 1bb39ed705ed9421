"""A job held in its middle on real hosts, and the truth that has to come out after an accident."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.automation.processes import find_processes
from app.domain.states import Cause, JobStatus, Status
from tests.lab.agents import (
    is_starting,
    look_at_agents,
    on_all,
    open_gates,
)
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, wait_for

TRUTH_WITHIN = 30.0  # seconds from an accident until nothing says "running" that is not
GONE = ("inactive", 0, "")


@dataclass
class Middle:
    """An install that works on every one of its hosts and cannot end before the gates open."""

    installation: Installation
    hosts: Sequence[LabHost]
    job: int = field(init=False)
    run: int = field(init=False)
    since: float = field(init=False)

    def __post_init__(self) -> None:
        here = self.installation
        self.job = here.install(self.hosts, here.agents.gated())
        wait_for(self._is_there, lambda: f"every host is in the middle: {here.describe(self.job)}")
        (run,) = here.runs(self.job)
        self.run = run.id
        assert find_processes(self.run, here.run_folder)
        self.since = time.monotonic()

    def _is_there(self) -> bool:
        parts = self.installation.parts(self.job).values()
        if any(part.status.is_final for part in parts):
            raise AssertionError(f"some ended early: {self.installation.describe(self.job)}")
        return all(on_all(is_starting, self.hosts))

    def accident(self) -> None:
        """From now on the clock ticks."""
        self.since = time.monotonic()

    def left(self) -> float:
        return max(0.1, TRUTH_WITHIN - (time.monotonic() - self.since))

    def come_to_truth(self) -> None:
        """In time: nothing of the run is left anywhere, the hosts are as before, and we say so."""
        here = self.installation
        wait_for(
            lambda: not here.leftovers([self.run], self.hosts),
            lambda: f"nothing is left: {here.leftovers([self.run], self.hosts)}",
            self.left(),
        )
        agents = look_at_agents(self.hosts)
        left = {address: seen for address, seen in agents.items() if seen != GONE}
        assert not left, f"the hosts are not as before: {left}"
        here.finish(self.job, self.left())
        print(f"\n  the truth after {time.monotonic() - self.since:.1f} s", end=" ")
        self.check_told(Cause.LOST)

    def check_told(self, *causes: Cause) -> None:
        here = self.installation
        assert here.job(self.job).status is JobStatus.FAILED, here.describe(self.job)
        assert here.locks(self.job) == set()
        for address, part in here.parts(self.job).items():
            assert part.status is Status.FAILED, f"{address}: {part.status}"
            assert part.cause in causes, f"{address}: {part.cause} {part.reason}"
            assert part.reason
            steps = here.steps(part).values()
            assert Status.RUNNING not in {step.status for step in steps}, address
        assert sum(here.job(self.job).counts.values()) == len(self.hosts)

    def finish_the_rest(self) -> None:
        """The gates open; a retry does what is left to do."""
        open_gates(self.hosts)
        self.installation.retry(self.job)
        self.succeed()

    def succeed(self) -> None:
        here = self.installation
        assert here.finish(self.job) is JobStatus.SUCCESS, here.describe(self.job)
        agents = look_at_agents(self.hosts)
        assert {(seen.state, seen.version) for seen in agents.values()} == {("active", "3.0.0")}
        runs = [run.id for run in here.runs(self.job)]
        assert here.leftovers(runs, self.hosts) == []
