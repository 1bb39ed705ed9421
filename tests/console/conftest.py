"""A console over a real database and a real Redis, with people of every role."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis, RedisError
from sqlalchemy import select

from app.access.users import create_user
from app.cli.first_start import prepare_database
from app.cli.redis_server import redis_command
from app.domain.commands import AuthType, HostSpec, LoginSpec, SubmitJob
from app.domain.states import Cause, Status
from app.factory import create_app
from app.jobs.context import Context, open_context
from app.jobs.fold import refresh_tasks
from app.jobs.submit import submit_job
from app.models.base import transaction
from app.models.work import Part
from app.settings import Settings

PASSWORD = "correct horse"
PEOPLE = {"ada": "admin", "olga": "operator", "vic": "viewer"}
HEADERS = {"Origin": "http://localhost"}  # as a browser sends them from one of our pages

Submit = Callable[..., int]
SignIn = Callable[[str], FlaskClient]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own, on a socket."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("redis"))
    server = subprocess.Popen(redis_command(settings), stdin=subprocess.DEVNULL)
    wait_for(settings.redis, server)
    yield settings.redis
    server.terminate()
    server.wait(60)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until Redis answers there."""
    with Redis.from_url(url, retry=None) as redis:
        while server.poll() is None:
            try:
                redis.ping()
            except RedisError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.05)
            else:
                return
    raise RuntimeError(f"Redis ended with {server.returncode}")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the people in it; slow hashes are made once."""
    folder = tmp_path_factory.mktemp("prepared")
    ctx = open_context(Settings(data_dir=folder))
    prepare_database(ctx.engine)
    with transaction(ctx.engine) as session:
        for name, role in PEOPLE.items():
            create_user(session, name, PASSWORD, role)
        create_user(session, "ben", PASSWORD, "operator", businesses=[7])
    ctx.engine.dispose()
    return folder


@pytest.fixture
def ctx(tmp_path: Path, prepared: Path, redis_url: str) -> Iterator[Context]:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    ctx = open_context(Settings(data_dir=tmp_path, redis_url=redis_url))
    yield ctx
    ctx.engine.dispose()


@pytest.fixture
def web(ctx: Context) -> Flask:
    return create_app(ctx)


@pytest.fixture
def sign_in(web: Flask) -> SignIn:
    """A browser of that person, signed in."""

    def sign_in(name: str) -> FlaskClient:
        client = web.test_client()
        answer = client.post(
            "/login", data={"username": name, "password": PASSWORD}, headers=HEADERS
        )
        assert answer.status_code == 302, answer.text
        return client

    return sign_in


@pytest.fixture
def submit(ctx: Context) -> Submit:
    """Submit a job on so many hosts, of which the first few then fail for a reason."""

    def submit(count: int = 3, failed: int = 0, reason: str = "Send the right password.") -> int:
        login = LoginSpec(account="root", port=22, auth_type=AuthType.PASSWORD, password="secret-1")
        hosts = tuple(
            HostSpec(
                business_id=2, inner_ip=f"10.0.0.{n}", os_type="LINUX", access_point_id=1,
                account="root", port=22, auth_type=AuthType.PASSWORD, login=login,
            )
            for n in range(1, count + 1)
        )  # fmt: skip
        job = submit_job(ctx, SubmitJob(job_type="IMPORT_AGENT", hosts=hosts, created_by="olga"))
        fail(ctx, job.task_id, failed, reason)
        return job.job_id

    return submit


def fail(ctx: Context, task_id: int, count: int, reason: str) -> None:
    with transaction(ctx.engine) as session:
        parts = session.scalars(
            select(Part).where(Part.task_id == task_id).order_by(Part.id).limit(count)
        ).all()
        for part in parts:
            part.move_to(Status.FAILED, reason, cause=Cause.AUTH)
        refresh_tasks(session, [task_id])
