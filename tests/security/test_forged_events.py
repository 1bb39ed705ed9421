"""What a host prints can not become an event, and so says nothing about any other host."""

import json
import re

import pytest
from sqlalchemy import select

from app.domain.commands import HostSpec
from app.domain.states import Cause, Status
from app.models.base import reading
from app.models.work import LogChunk
from tests.lab.fallback import FallbackHost
from tests.lab.installation import Installation, key_login
from tests.security.hostile import FORGE, hostile_python

AFTER = """
honest()
for lie in LIES:
    print(forged(lie), flush=True)
"""
BESIDE = """
for lie in LIES:
    print(forged(lie), file=sys.stderr, flush=True)
sys.exit(255)
"""
BEFORE = """
for lie in LIES:
    print(forged(lie))
    print("{%s}" % forged(lie), flush=True)
honest()
"""
WITHIN = """
said = "".join(map(forged, LIES))
phase = {"key": "check", "status": "ok", "changed": True, "log": said, "seconds": 0}
answer({"phases": [phase], "changed": True, "msg": said, "reason": said, "cause": said,
        "after": {"hostname": said}})
"""
COLOURED = """
said = "\\x1b[31mred\\x1b]0;title\\x07 \\x9b1m \\u202egnp.exe \\ud800 \\x00 \\rover"
phase = {"key": "check", "status": "failed", "changed": True, "log": said, "seconds": 0}
answer({"phases": [phase], "changed": True, "msg": said, "reason": said, "cause": "privilege",
        "failed": True, "after": {"hostname": said}})
"""
COMPLAINING = """
print("\\x1b[2J\\x1b[31mred \\u202egnp.exe", file=sys.stderr, flush=True)
sys.exit(255)
"""


@pytest.mark.parametrize("lies", ["lies", "breakers"])
def test_what_a_host_prints_says_nothing_about_another_host(
    attacked: Installation, hosts: list[FallbackHost], lies: str
) -> None:
    version = attacked.agents.steady()
    honest, victim, *liars = hosts
    for host, does in zip(liars, (AFTER, BESIDE, BEFORE, WITHIN), strict=True):
        does = does.replace("LIES", f'{lies}("host_2")')
        hostile_python(host.path("python"), FORGE + does)
    victim.break_key()

    specs = [spec(attacked, host) for host in hosts]
    job_id = attacked.install(specs, version)
    attacked.finish(job_id)

    parts = attacked.parts(job_id)
    assert victim_id(attacked, victim) == 2, "the lies are about another host"
    untouched = parts[victim.address]
    assert (untouched.status, untouched.cause) == (Status.FAILED, Cause.AUTH)
    assert not untouched.after
    assert untouched.before is None
    assert "evil" not in json.dumps([attacked.hosts()[victim.address].values])
    assert parts[honest.address].status is Status.SUCCESS
    after, beside, before, within = (parts[host.address] for host in liars)
    assert (after.status, before.status) == (Status.SUCCESS, Status.SUCCESS)
    assert beside.status is Status.FAILED
    assert within.status is Status.SUCCESS, "what it says of itself is its own"
    assert [run.outcome for run in attacked.runs(job_id)] == ["failed"]


def test_nothing_that_controls_a_terminal_is_stored(
    attacked: Installation, hosts: list[FallbackHost]
) -> None:
    hostile_python(hosts[0].path("python"), COLOURED)
    hostile_python(hosts[2].path("python"), COMPLAINING)
    version = attacked.agents.steady()

    job_id = attacked.install([spec(attacked, hosts[0]), spec(attacked, hosts[2])], version)
    attacked.finish(job_id)

    (run,) = attacked.runs(job_id)
    with reading(attacked.ctx.engine) as session:
        chunks = session.scalars(select(LogChunk.content).where(LogChunk.run_id == run.id))
        told = [b"".join(chunks).decode()]
    for part in attacked.parts(job_id).values():
        told += [str(part.reason), json.dumps(part.after, ensure_ascii=False)]
        told += [step.log for step in attacked.steps(part).values()]
    assert sum("red" in text for text in told) >= 4, "what they said is there"
    assert not [text for text in told if re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)]


def spec(attacked: Installation, host: FallbackHost) -> HostSpec:
    return attacked.spec(host, login=key_login(host, host.user))  # type: ignore[arg-type]


def victim_id(attacked: Installation, victim: FallbackHost) -> int:
    return attacked.hosts()[victim.address].id
