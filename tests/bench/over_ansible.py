"""Wall time of one slice over that of bare `ansible-playbook` of the same playbook.

Hostler's time is from the job's creation to its end, as its row says. The bare run gets the play
that Hostler played, rebuilt by Hostler's own code: inventory, limit and forks, with the checkout's
ansible.cfg and virtual environment, output to nowhere. Hosts are reset before every run, so that
each does the same work over new connections. Runs alternate, and the medians are compared.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import select

from app.automation.inventory import write_inventory, write_limit
from app.automation.runner import ANSIBLE_SETTINGS, PLAYBOOKS, SYSTEM_PATH, Play
from app.domain.catalogue import CATALOGUE
from app.jobs.claim import Claim
from app.jobs.context import Context
from app.jobs.prepare import prepare_run
from app.models.base import reading
from app.models.work import Job, Run, RunPart, Subtask
from tests.bench.figure import Bench, Figure, Profile, Result
from tests.bench.place import CHECKOUT, Asked, Place, installation
from tests.lab.hosts import LabHost

RATIO = Figure("wall_over_ansible", "", 1.05)


def measure(profile: Profile, place: Place) -> Iterator[Result]:
    hosts = place.hosts(profile.lab_size(40, 100))
    ours, bare = [], []
    with installation(workers=1) as asked:
        for _ in range(profile.size(3, 5)):
            place.reset(hosts)
            job_id, seconds = _hostler(asked, hosts)
            ours.append(seconds)
            place.reset(hosts)
            bare.append(play_bare(play_of(asked.ctx, job_id)))
    ratio = statistics.median(ours) / statistics.median(bare)
    yield Result(
        RATIO,
        ratio,
        {
            "hosts": len(hosts),
            "hostler_seconds": [round(s, 2) for s in ours],
            "bare_seconds": [round(s, 2) for s in bare],
        },
    )


def _hostler(asked: Asked, hosts: list[LabHost]) -> tuple[int, float]:
    job_id = asked.install(hosts)
    asked.must_succeed(job_id)
    job = asked.installation.job(job_id)
    assert job.finished_at
    return job_id, (job.finished_at - job.created_at).total_seconds()


def play_of(ctx: Context, job_id: int) -> Play:
    """What the only run of this job played."""
    with reading(ctx.engine) as session:
        run = session.scalars(select(Run).where(Run.job_id == job_id)).one()
        subtask = session.get_one(Subtask, run.subtask_id)
        rows = session.execute(
            select(RunPart.host_id, RunPart.part_id).where(RunPart.run_id == run.id)
        ).all()
        job_type = CATALOGUE[session.get_one(Job, job_id).job_type]
    claim = Claim(
        run_id=run.id,
        subtask_id=subtask.id,
        task_id=run.task_id,
        job_id=job_id,
        attempt=run.attempt,
        owner=run.owner,
        fence=run.fence,
        direction=run.direction,
        job_type=job_type,
        parts={host_id: part_id for host_id, part_id in rows},
    )
    play = prepare_run(ctx, claim).play
    assert play
    return play


def play_bare(
    play: Play, playbook: Path | None = None, settings: Mapping[str, str] = MappingProxyType({})
) -> float:
    """Play it, or another playbook, by ansible-playbook alone; how many seconds that took."""
    playbook = playbook or PLAYBOOKS / f"{play.playbook}.yml"
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="hb-") as name:
        folder = Path(name)
        inventory = write_inventory(folder, play.machines, play.shared)
        timeout = {"ANSIBLE_TASK_TIMEOUT": str(int(play.host_timeout.total_seconds()))}
        limit = write_limit(folder, play.limit)
        began = time.monotonic()
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(inventory), "--limit", f"@{limit}", "--forks", str(play.forks)),
                str(playbook),
            ],
            cwd=CHECKOUT,
            env=_environment(folder) | timeout | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(f"ansible-playbook ended with {done.returncode}")
        _close_connections(folder)
        return seconds


def _environment(folder: Path) -> dict[str, str]:
    return {
        **ANSIBLE_SETTINGS,
        "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
        "HOME": str(folder),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "HOSTLER_FOLDER": str(folder),
    }


def _close_connections(folder: Path) -> None:
    """End the shared connections Ansible leaves open for a minute, as Hostler does with its own."""
    for socket in (folder / "cp").iterdir():
        command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "x"]
        subprocess.run(command, capture_output=True)


BENCHES = (Bench("wall", (RATIO,), measure, needs_lab=True),)
