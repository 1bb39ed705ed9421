"""A host that prints without end costs its own result and next to nothing of ours."""

import pytest

from app.domain.states import Cause, Status
from tests.lab.fallback import FallbackHost
from tests.lab.installation import Installation
from tests.security.hostile import hostile_python
from tests.security.test_forged_events import spec

ENDLESS = """
block = b"x" * 2**20
for _ in range(64):  # it may as well be for ever
    os.write({descriptor}, block)
"""
ENDLESS_LINES = """
while True:
    os.write({descriptor}, b"{{}}\\n" * 2**16)
"""
LONG = """
log, reason = "x" * 300_000 + "END", "y" * 300_000 + "END"
phase = {"key": "check", "status": "failed", "changed": True, "log": log, "seconds": 0}
answer({"phases": [phase], "reason": reason, "failed": True, "cause": "privilege"})
"""


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_host_that_prints_without_end_is_cut_off_alone(
    attacked: Installation, hosts: list[FallbackHost], descriptor: int
) -> None:
    for host, does in zip(hosts, (ENDLESS, ENDLESS_LINES), strict=False):
        hostile_python(host.path("python"), does.format(descriptor=descriptor))

    job_id = attacked.install([spec(attacked, h) for h in hosts[:3]], attacked.agents.steady())
    attacked.finish(job_id)

    *endless, honest = (attacked.parts(job_id)[host.address] for host in hosts[:3])
    assert [part.cause for part in endless] == [Cause.TOO_MUCH_OUTPUT] * 2
    assert "more than 1 MiB" in endless[0].reason
    assert honest.status is Status.SUCCESS
    assert attacked.runs(job_id)[0].log_size < 2**20


def test_of_a_long_answer_both_ends_are_kept_and_the_cut_is_said(
    attacked: Installation, hosts: list[FallbackHost]
) -> None:
    hostile_python(hosts[0].path("python"), LONG)

    job_id = attacked.install([spec(attacked, hosts[0])], attacked.agents.steady())
    attacked.finish(job_id)

    (part,) = attacked.parts(job_id).values()
    log = attacked.steps(part)["check"].log
    for text in (log, part.reason):
        assert "END" in text
        assert "characters were left out here" in text
        assert len(text) < 200_000
