"""A whole installation in a folder: SQLite, an embedded Redis, keys, a package, no hosts."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.automation.events import Event, HostResult, HostStarted, Verdict
from app.domain.commands import AuthType, HostSpec, LoginSpec, SubmitJob, Submitted
from app.domain.states import Cause
from app.jobs.claim import Claim, claim_run
from app.jobs.context import Context, open_context
from app.jobs.submit import submit_job
from app.models.base import Base, now, reading, transaction
from app.models.package import Package
from app.models.work import Part, Run
from app.settings import Settings
from app.zones.first_start import ensure_first_zone
from tests.redis import embedded_redis


@pytest.fixture(scope="session")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_redis(tmp_path_factory.mktemp("redis")) as socket:
        yield socket


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an installation nobody has used yet; every test gets a copy."""
    return prepare(tmp_path_factory.mktemp("prepared"))


def prepare(folder: Path, *more: Callable[[Context], None]) -> Path:
    """A first start in this folder, and whatever else is to be there."""
    ctx = open_context(Settings(data_dir=folder))
    begin(ctx)
    for add in more:
        add(ctx)
    ctx.engine.dispose()
    return folder


def begin(ctx: Context) -> None:
    """What a first start writes into an empty database, and an agent's package."""
    Base.metadata.create_all(ctx.engine)
    with transaction(ctx.engine) as session:
        ensure_first_zone(session)
        session.add(a_package())


@pytest.fixture
def ctx(tmp_path: Path, prepared: Path, redis_socket: str) -> Iterator[Context]:
    """An installation nobody has used yet."""
    shutil.copytree(prepared, tmp_path / "data")
    settings = Settings(data_dir=tmp_path / "data", redis_url=f"unix://{redis_socket}")
    ctx = open_context(settings)
    ctx.queue.connection.flushall()
    yield ctx
    ctx.queue.connection.close()
    ctx.engine.dispose()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def postgres_ctx(empty_database: str, tmp_path: Path, redis_socket: str) -> Iterator[Context]:
    """An installation nobody has used yet, on PostgreSQL and with slices of two hosts."""
    settings = Settings(
        data_dir=tmp_path / "postgres", redis_url=f"unix://{redis_socket}", slice_size=2,
        database_url=empty_database,
    )  # fmt: skip
    ctx = open_context(settings)
    ctx.queue.connection.flushall()
    begin(ctx)
    yield ctx
    ctx.queue.connection.close()
    ctx.engine.dispose()


@pytest.fixture(params=["ctx", "postgres_ctx"])
def either_ctx(request: pytest.FixtureRequest) -> Context:
    """What is to be true on both databases is asked of both."""
    found: Context = request.getfixturevalue(request.param)
    return found


def a_package(version: str = "1.0.0", name: str = "agent") -> Package:
    return Package(
        name=name,
        kind="agent",
        version=version,
        os="LINUX",
        cpu="x86_64",
        sha256=f"{version:0<64}",
        size=1,
        manifest={},
        ready=True,
    )


def a_login(secret: str = "s3cret-enough", retention: int | None = None) -> LoginSpec:
    return LoginSpec(
        account="root", port=22, auth_type=AuthType.PASSWORD, password=secret, retention=retention
    )


def a_host(number: int, login: LoginSpec | None = None, **more: object) -> HostSpec:
    login = login or a_login()
    values: dict[str, object] = {
        "business_id": 2,
        "inner_ip": f"10.9.{number // 250}.{number % 250 + 1}",
        "os_type": "LINUX",
        "access_point_id": 1,
        "login": login,
        "account": login.account,
        "port": login.port,
        "auth_type": login.auth_type,
    }
    return HostSpec(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
def install(ctx: Context) -> Callable[..., Submitted]:
    """Submit INSTALL_AGENT on so many hosts, or on these."""

    def submit(hosts: int | list[HostSpec] = 1, **more: object) -> Submitted:
        rows = [a_host(n) for n in range(hosts)] if isinstance(hosts, int) else hosts
        values: dict[str, object] = {"job_type": "INSTALL_AGENT", "created_by": "alice"}
        return submit_job(ctx, SubmitJob(hosts=tuple(rows), **(values | more)))  # type: ignore[arg-type]

    return submit


def parts_of(ctx: Context, job_id: int) -> list[Part]:
    """The parts of a job's current targets, in order."""
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Part).where(Part.job_id == job_id).order_by(Part.id)))


def runs_of(ctx: Context, job_id: int) -> list[Run]:
    with reading(ctx.engine) as session:
        return list(session.scalars(select(Run).where(Run.job_id == job_id).order_by(Run.id)))


def claim_next(ctx: Context, owner: str = "test:1:a") -> Claim:
    """Claim the oldest run that waits."""
    with reading(ctx.engine) as session:
        run_id = session.scalars(
            select(Run.id).where(Run.status == "ready").order_by(Run.id)
        ).first()
    assert run_id is not None, "no run waits"
    claim = claim_run(ctx, run_id, owner)
    assert claim is not None
    return claim


def started(host_id: int) -> Event:
    return HostStarted(host_id, "Package | Do the work", now())


def worked(host_id: int, version: str = "1.0.0") -> Event:
    """What the package role answers when all went well."""
    phases = [{"key": "check", "status": "ok", "changed": False, "log": "fine", "seconds": 0.1}]
    release = {"version": version, "name": "agent"}
    result = {"phases": phases, "changed": True, "after": {"release": release, "running": True}}
    return HostResult(host_id, "Package", "ok", False, None, "", result, now())


def broke(host_id: int, cause: Cause = Cause.AUTH, reason: str = "wrong password") -> Event:
    return HostResult(host_id, "Package", "unreachable", False, cause, reason, {}, now())


def a_verdict(
    proven_ok: Iterable[int] = (),
    failed: Mapping[int, tuple[Cause, str]] | None = None,
    not_started: Iterable[int] = (),
) -> Verdict:
    """What became of the hosts of a run that ended by itself."""
    return Verdict(
        proven_ok=frozenset(proven_ok),
        failed=dict(failed or {}),
        not_started=frozenset(not_started),
        outside_limit=frozenset(),
        outcome="failed" if failed else "successful",
        message="",
    )


def count(session: Session, table: type[Base]) -> int:
    return len(session.scalars(select(table)).all())
