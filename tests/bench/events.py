"""How many of ansible-runner's events are read and stored in a second.

The recorded events of a real install are said again for every host of a job, run by run, as fast as
they are taken: read, recorded in batches, redacted, folded into parts, steps, the job's counts, its
event log and the log of the run, each batch durable when it is committed (SQLite synchronous=FULL;
PostgreSQL with fsync). Counted are runner's raw events; claiming and settling are not timed.
"""

import contextlib
import gc
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from app.access.redact import Redactor
from app.automation.events import read
from app.domain.commands import AuthType, HostSpec, LoginSpec, SubmitJob
from app.jobs.context import Context, open_context
from app.jobs.progress import Recorder
from app.jobs.submit import submit_job
from app.models.base import Base, transaction
from app.packages.add import add_package
from app.settings import Settings
from app.zones.first_start import ensure_first_zone
from tests.bench.figure import Bench, Figure, Profile, Result
from tests.bench.place import Place, agent_package
from tests.bench.played import claim_next, raw_events
from tests.postgres import find_programs, wait_for
from tests.redis import embedded_redis

SQLITE = Figure("events_sqlite", "/s", 5000, at_least=True)
POSTGRESQL = Figure("events_postgresql", "/s", 10_000, at_least=True)
PASSWORD = "correct horse"


def measure(profile: Profile, _place: Place) -> Iterator[Result]:
    hosts = profile.size(4000, 20_000)
    with context("") as ctx:
        yield store(SQLITE, ctx, hosts)


def measure_postgresql(profile: Profile, _place: Place) -> Iterator[Result]:
    hosts = profile.size(4000, 20_000)
    with postgresql() as url, context(url) as ctx:
        yield store(POSTGRESQL, ctx, hosts)


def store(figure: Figure, ctx: Context, hosts: int) -> Result:
    """Store the events of an install on so many hosts."""
    submit_job(ctx, a_job(hosts))
    gc.collect()
    gc.freeze()  # as a worker has done before it forks the work-horse that records
    count, wall, cpu = 0, 0.0, 0.0
    done = 0
    while done < hosts:
        claim = claim_next(ctx)
        raw = [event for host in claim.parts for event in raw_events(host)]
        recorder = Recorder(ctx, claim, Redactor([PASSWORD]), lambda: None)
        began, used = time.monotonic(), time.process_time()
        for event in raw:
            for said in read(event):
                recorder.take(said)
        recorder.close()
        wall += time.monotonic() - began
        cpu += time.process_time() - used
        count += len(raw)
        done += len(claim.parts)
    seen = {"events": count, "hosts": hosts, "cpu_ms_per_event": round(1000 * cpu / count, 3)}
    return Result(figure, count / wall, seen)


def a_job(hosts: int) -> SubmitJob:
    login = LoginSpec(account="root", port=22, auth_type=AuthType.PASSWORD, password=PASSWORD)
    rows = tuple(
        HostSpec(
            business_id=2,
            inner_ip=f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}",
            os_type="LINUX",
            access_point_id=1,
            login=login,
            account=login.account,
            port=login.port,
            auth_type=login.auth_type,
        )
        for n in range(hosts)
    )
    return SubmitJob(job_type="INSTALL_AGENT", hosts=rows, created_by="bench")


@contextlib.contextmanager
def context(database_url: str) -> Iterator[Context]:
    """An installation without processes, but for its Redis."""
    with tempfile.TemporaryDirectory(prefix="hostler-bench-") as folder:
        redis = contextlib.ExitStack()
        socket = redis.enter_context(embedded_redis(Path(folder)))
        settings = Settings(
            data_dir=Path(folder, "data"),
            redis_url=f"unix://{socket}",
            database_url=database_url,
        )
        ctx = open_context(settings)
        try:
            Base.metadata.create_all(ctx.engine)
            with transaction(ctx.engine) as session:
                ensure_first_zone(session)
                add_package(session, agent_package())
            yield ctx
        finally:
            ctx.queue.connection.close()
            ctx.engine.dispose()
            redis.close()


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL that syncs what it commits, on a socket of its own; the URL of a database."""
    programs = find_programs()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed (apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="hostler-bench-pg-") as folder:
        if user:
            shutil.chown(folder, user, user)
        data = Path(folder, "data")
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "hostler"],
            check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", ""],
            user=user, cwd=folder, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield wait_for(f"postgresql+psycopg://hostler@/postgres?host={folder}", server)
        finally:
            server.terminate()
            server.wait(30)


BENCHES = (
    Bench("events", (SQLITE,), measure),
    Bench("events-postgresql", (POSTGRESQL,), measure_postgresql),
)
