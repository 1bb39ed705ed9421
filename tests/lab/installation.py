"""A real installation for lab tests: `hostler up` on a folder of its own, and what asks it things.

It is driven as any program drives it: over REST, or by the use cases on a context of our own.
"""

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import requests
from redis import RedisError
from sqlalchemy import select, update

from app.access.standing import standing_public_key
from app.automation.processes import find_processes
from app.domain.commands import AuthType, HostSpec, LoginSpec, SubmitJob
from app.domain.states import Cause, JobStatus, Status
from app.jobs.context import Context, open_context
from app.jobs.submit import submit_job
from app.models.base import reading, transaction
from app.models.fleet import AccessPoint, Host, HostLock
from app.models.work import Job, Part, Run, StepRow, Target
from app.settings import Settings
from tests.lab.agents import Agents, look_at_locks
from tests.lab.errors import LabError
from tests.lab.hosts import Lab, LabHost

CHECKOUT = Path(__file__).resolve().parents[2]
READY_SECONDS = 120  # a start, on a machine that is busy with other tests
STOP_SECONDS = 60
JOB_SECONDS = 120
LOOK = 0.1
ENDED = ("SUCCESS", "PART_FAILED", "FAILED")  # a job, on the wire
T = TypeVar("T")

_clock = threading.Event()


def wait_for(look: Callable[[], T | None], what: object, within: float = JOB_SECONDS) -> T:
    """What `look` finds, as soon as it finds something; else a failure that says how it stands."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:.0f} s: {what() if callable(what) else what}")
        _clock.wait(LOOK)
    return found


class Installation:
    """One `hostler up`, which may be killed and started again on its folder."""

    def __init__(self, *, workers: int = 2, **settings: object) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hl-"))
        self.data_dir = self.folder / "data"
        self.workers = workers
        self.settings = {
            "data_dir": self.data_dir,
            "default_agent_package": "false",
            "log_level": "INFO",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.ctx: Context
        self.agents: Agents

    # --- Its life -----------------------------------------------------------------------------

    def start(self) -> "Installation":
        """Start it and return when it says that it is ready."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "up", "--port=0", "--package-port=0",
                 f"--workers={self.workers}"],
                cwd=CHECKOUT, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        wait_for(
            lambda: self.said_since(begin).count("hostler is ready") or self._has_ended(),
            lambda: f"hostler up is not ready:\n{self.said_since(begin)}",
            READY_SECONDS,
        )
        if self._has_ended():
            raise LabError(f"hostler up ended:\n{self.said_since(begin)}")
        self.ctx = open_context(Settings.from_env(self._environment()))
        self.agents = Agents(self.ctx, self.folder)
        return self

    def _environment(self) -> dict[str, str]:
        ours = {f"HOSTLER_{name.upper()}": str(value) for name, value in self.settings.items()}
        (self.folder / "tmp").mkdir(exist_ok=True)
        temporary = {"TMPDIR": str(self.folder / "tmp")}
        return {**os.environ, **ours, **temporary, "PYTHONPATH": str(CHECKOUT)}

    def _has_ended(self) -> bool:
        assert self.process
        return self.process.poll() is not None

    def stop(self) -> None:
        """Ctrl-C, and a failure when it does not end."""
        assert self.process
        self._let_go()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"hostler up did not stop:\n{self.log.read_text()}") from None

    def kill(self) -> None:
        """kill -9 of the supervisor, and of nothing else."""
        assert self.process
        self.process.kill()
        self.process.wait()
        self._let_go()

    def _let_go(self) -> None:
        """Close what we have open of it ourselves."""
        self.ctx.queue.connection.close()
        self.ctx.engine.dispose()

    def throw_away(self) -> None:
        if self.process and not self._has_ended():
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.ctx.settings.run_folder, ignore_errors=True)

    def with_settings(self, **changes: Any) -> "Installation":
        """The same one, asked through a server that is set up otherwise."""
        other = copy.copy(self)
        other.ctx = replace(self.ctx, settings=replace(self.ctx.settings, **changes))
        return other

    @property
    def log(self) -> Path:
        return self.folder / "up.log"

    @property
    def package_url(self) -> str:
        """Where packages are fetched, from this machine."""
        (*_, url) = re.findall(r"packages +(http://\S+)/packages/", self.log.read_text())
        return str(url)

    def said_since(self, position: int) -> str:
        return self.log.read_bytes()[position:].decode(errors="replace")

    # --- Its processes ------------------------------------------------------------------------

    def worker_pids(self) -> list[int]:
        return self._children("app.cli", "worker")

    def redis_pid(self) -> int:
        (pid,) = self._children("valkey-server")
        return pid

    def redis_answers(self) -> bool:
        try:
            return bool(self.ctx.queue.connection.ping())
        except RedisError:
            return False

    def _children(self, *words: str) -> list[int]:
        assert self.process
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if all(word in " ".join(child.cmdline()) for word in words):
                    found.append(child.pid)
        return found

    def horse_of(self, run_id: int) -> int:
        """The work-horse that plays this run."""
        playbook = psutil.Process(self.playbook_of(run_id))
        parent = playbook.parent()
        assert parent is not None
        return parent.pid

    def playbook_of(self, run_id: int) -> int:
        """The ansible-playbook of this run: the first of its processes."""
        born = {}
        for found in find_processes(run_id, self.run_folder):
            with contextlib.suppress(psutil.Error):  # a host's worker may end at this moment
                if not found.is_ssh:
                    born[found.pid] = psutil.Process(found.pid).create_time()
        assert born, f"run {run_id} has no process"
        return min(born, key=lambda pid: born[pid])

    @property
    def run_folder(self) -> Path:
        return self.ctx.settings.run_folder

    # --- Jobs ---------------------------------------------------------------------------------

    def spec(self, host: LabHost, *, account: str = "root", **more: Any) -> HostSpec:
        """A whole host row, with the password that opens it unless another login is given."""
        login = more.pop("login", None) or password_login(host, account)
        values: dict[str, Any] = {
            "business_id": 2,
            "inner_ip": host.address,
            "os_type": "LINUX",
            "access_point_id": 1,
            "account": login.account,
            "port": login.port,
            "auth_type": login.auth_type,
            "login": login,
        }
        return HostSpec(**(values | more))

    def install(self, hosts: Sequence[LabHost | HostSpec], version: str = "", **more: Any) -> int:
        """Submit INSTALL_AGENT; the job's id."""
        specs = [h if isinstance(h, HostSpec) else self.spec(h) for h in hosts]
        return self.submit("INSTALL_AGENT", specs, version, **more)

    def operate(
        self, job_type: str, hosts: Sequence[LabHost], version: str = "", **more: Any
    ) -> int:
        """Submit a job on known hosts, naming them and nothing else; the job's id."""
        ids = self.host_ids(hosts)
        values = more.pop("values", {})
        specs = [HostSpec(host_id=ids[host.address], values=values) for host in hosts]
        return self.submit(job_type, specs, version, **more)

    def submit(
        self, job_type: str, specs: Sequence[HostSpec], version: str = "", **more: Any
    ) -> int:
        command = SubmitJob(
            job_type=job_type,
            hosts=tuple(specs),
            created_by="lab",
            package_version=version or None,
            **more,
        )
        return submit_job(self.ctx, command).job_id

    def retry(self, job_id: int) -> None:
        self.ask(f"/api/job/{job_id}/retry/")

    def revoke(self, job_id: int, hosts: Sequence[LabHost] = ()) -> None:
        ids = self.host_ids(hosts)
        names = [f"host|instance|host|{ids[host.address]}" for host in hosts]
        self.ask(f"/api/job/{job_id}/revoke/", instance_id_list=names)

    def finish(self, job_id: int, within: float = JOB_SECONDS) -> JobStatus:
        """Wait for the end of a job; its status."""
        return wait_for(
            lambda: self.job(job_id).status if self.job(job_id).status.is_final else None,
            lambda: self.describe(job_id),
            within,
        )

    def job(self, job_id: int) -> Job:
        with reading(self.ctx.engine) as session:
            return session.get_one(Job, job_id)

    def parts(self, job_id: int) -> dict[str, Part]:
        """The parts of the current targets, by the address of their host."""
        query = (
            select(Host, Part)
            .join(Part, Part.host_id == Host.id)
            .join(Target, Target.id == Part.target_id)
            .where(Part.job_id == job_id, Target.is_current)
        )
        with reading(self.ctx.engine) as session:
            return {host.login_address: part for host, part in session.execute(query)}

    def steps(self, part: Part) -> dict[str, StepRow]:
        with reading(self.ctx.engine) as session:
            query = select(StepRow).where(StepRow.part_id == part.id).order_by(StepRow.index)
            return {step.key: step for step in session.scalars(query)}

    def runs(self, job_id: int) -> list[Run]:
        with reading(self.ctx.engine) as session:
            query = select(Run).where(Run.job_id == job_id).order_by(Run.id)
            return list(session.scalars(query))

    def hosts(self) -> dict[str, Host]:
        with reading(self.ctx.engine) as session:
            return {host.login_address: host for host in session.scalars(select(Host))}

    def host_ids(self, hosts: Sequence[LabHost]) -> dict[str, int]:
        known = self.hosts()
        return {host.address: known[host.address].id for host in hosts}

    def locks(self, job_id: int) -> set[int]:
        """The ids of the hosts this job holds."""
        with reading(self.ctx.engine) as session:
            query = select(HostLock.host_id).where(HostLock.job_id == job_id)
            return set(session.scalars(query))

    def describe(self, job_id: int) -> str:
        """How a job stands, for a failure."""
        job = self.job(job_id)
        lines = [f"job {job_id} {job.job_type} is {job.status}: {job.counts}"]
        lines += [
            f"  {address}: {part.status} {part.cause} {part.reason}"
            for address, part in self.parts(job_id).items()
        ]
        lines += [
            f"  run {r.id}: {r.status} {r.outcome} by {r.owner} beat {r.beat} {r.message}"
            for r in self.runs(job_id)
        ]
        return "\n".join([*lines, *self.log.read_text().splitlines()[-15:]])

    def forget_values(self, hosts: Sequence[LabHost]) -> None:
        """Let no later job of these hosts inherit the values of an earlier one."""
        with transaction(self.ctx.engine) as session:
            addresses = [host.address for host in hosts]
            session.execute(update(Host).where(Host.inner_ip.in_(addresses)).values(values={}))

    def add_access_point(self, url: str) -> int:
        """A further access point whose hosts fetch their packages from there."""
        with transaction(self.ctx.engine) as session:
            point = AccessPoint(name=url, package_url=url)
            session.add(point)
            session.flush()
            return point.id

    def standing_key(self) -> str:
        with transaction(self.ctx.engine) as session:
            return standing_public_key(session, self.ctx.vault, 0)

    # --- REST ---------------------------------------------------------------------------------

    def call(self, path: str, body: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        """One call in the node manager's way; the whole answer."""
        admin = json.loads((self.data_dir / "admin.json").read_text())
        login = {"bk_app_code": admin["app_code"], "bk_app_secret": admin["app_secret"]}
        answer = requests.request(
            method,
            f"{admin['url']}{path}",
            json=dict(body),
            headers={"X-Bkapi-Authorization": json.dumps(login | {"bk_username": "lab"})},
            timeout=60,
        )
        said: dict[str, Any] = answer.json()
        return said

    def ask(self, path: str, **body: Any) -> Any:
        """The same for a call that is to succeed; its data."""
        said = self.call(path, body)
        assert said["result"], said
        return said["data"]

    def over(self, job_id: int, within: float = JOB_SECONDS) -> dict[str, Any]:
        """The details of a job, as soon as they say that it has ended."""

        def look() -> dict[str, Any] | None:
            details: dict[str, Any] = self.ask(f"/api/job/{job_id}/details/", pagesize=-1)
            return details if details["status"] in ENDED else None

        return wait_for(look, lambda: self.describe(job_id), within)

    def row(self, host: LabHost, **more: Any) -> dict[str, Any]:
        """A host row as programs send it, with the password that opens the host."""
        return {
            "bk_biz_id": 2,
            "bk_cloud_id": 0,
            "ap_id": -1,
            "inner_ip": host.address,
            "os_type": "LINUX",
            "account": "root",
            "port": host.port,
            "auth_type": "PASSWORD",
            "password": host.password,
        } | more

    # --- Proof --------------------------------------------------------------------------------

    def leftovers(self, runs: Collection[int], hosts: Sequence[LabHost]) -> list[str]:
        """What is still there of these runs, here and on their hosts; empty when they are over."""
        found = [
            f"process {process.pid} of run {process.run_id} on the controller"
            for process in find_processes(root=self.run_folder)
            if process.run_id in runs
        ]
        folders = self.run_folder.iterdir() if self.run_folder.is_dir() else ()
        found += [
            f"folder {folder}" for folder in folders if int(folder.name[1:].split("-")[0]) in runs
        ]
        return [*found, *look_at_locks(hosts)]


def password_login(host: LabHost, account: str = "root", password: str = "") -> LoginSpec:
    return LoginSpec(
        account=account,
        port=host.port,
        auth_type=AuthType.PASSWORD,
        password=password or host.password,
    )


def key_login(host: LabHost, account: str = "root", key: str = "") -> LoginSpec:
    text = key or Path(host.private_key_file).read_text()
    return LoginSpec(account=account, port=host.port, auth_type=AuthType.KEY, key=text)


def by_cause(parts: Mapping[str, Part]) -> dict[str, Cause]:
    """The hosts that failed, and why."""
    return {
        address: part.cause
        for address, part in parts.items()
        if part.status is Status.FAILED and part.cause
    }


@pytest.fixture(scope="session")
def installation(lab: Lab) -> Iterator[Installation]:
    """The session's installation; tests share it, and none of them breaks it."""
    assert lab
    here = Installation(workers=4, host="0.0.0.0")  # hosts come to us too
    try:
        yield here.start()
    finally:
        here.throw_away()
