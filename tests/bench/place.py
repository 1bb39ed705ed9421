"""Where measurements are made: lab hosts, an installation, and the way to ask it things."""

import base64
import contextlib
import functools
import hashlib
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.automation.processes import find_processes
from app.jobs.context import Context
from app.models.base import transaction
from app.packages.add import add_package
from app.packages.fetch_default import NotToBeHad, fetch_default_package
from app.packages.prefer import prefer_package
from tests.bench.meter import CpuMeter
from tests.lab.hosts import Lab, LabHost
from tests.lab.installation import Installation
from tests.packages.agents import a_package

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache" / "bench"
MANIFEST = CHECKOUT / "app/packages/manifests/prometheus-node-exporter/hostler-package.yaml"
IDLE = 1.0  # seconds; the server closes a connection after two
LOOK = 0.5  # seconds between two looks at a job, to see its end soon


class Place:
    """One lab for all measurements of a run, as large as the largest asked for yet."""

    def __init__(self) -> None:
        self._lab: Lab | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def hosts(self, count: int) -> list[LabHost]:
        """So many lab hosts, as good as new."""
        lab = self._lab
        if lab is None:
            lab = self._lab = self._open(count)
        if len(lab.hosts) < count:
            lab.grow(count)
        hosts = lab.hosts[:count]
        lab.reset(hosts)
        return hosts

    def _open(self, count: int) -> Lab:
        """A lab of our own, or the one that HOSTLER_LAB_NAME says is up already."""
        if name := os.environ.get("HOSTLER_LAB_NAME"):
            return Lab.attach(name)
        return self._stack.enter_context(Lab.up(count, name="bench"))

    def reset(self, hosts: Sequence[LabHost]) -> None:
        assert self._lab
        self._lab.reset(list(hosts))


class Asked:
    """A running installation with a CPU meter around it, spoken to over HTTP as by any client."""

    def __init__(self, installation: Installation, meter: CpuMeter) -> None:
        self.installation = installation
        self.meter = meter
        self.admin = json.loads((installation.data_dir / "admin.json").read_text())
        self.url = urlsplit(self.admin["url"])
        self._connection = http.client.HTTPConnection(self.url.netloc, timeout=120)
        self._spoke = 0.0

    @property
    def ctx(self) -> Context:
        """Its context, with the port its package listener really has."""
        port = urlsplit(self.installation.package_url).port
        return self.installation.with_settings(package_port=port).ctx

    @property
    def pid(self) -> int:
        assert self.installation.process
        return self.installation.process.pid

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        """One request over a connection that stays open; the decoded answer."""
        headers = {"Content-Type": "application/json", **headers}
        if time.monotonic() - self._spoke > IDLE:
            self._connection.close()  # the server may be closing it at this moment
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        self._spoke = time.monotonic()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def call(self, path: str, body: dict[str, Any] | bytes) -> Any:
        """A call in the node manager's way; its data."""
        login = {"bk_app_code": self.admin["app_code"], "bk_app_secret": self.admin["app_secret"]}
        headers = {"X-Bkapi-Authorization": json.dumps({**login, "bk_username": "bench"})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        said = self.ask("POST", path, content, headers)
        if not said["result"]:
            raise RuntimeError(f"{path}: {said['message']}")
        return said["data"]

    def get(self, path: str) -> Any:
        """A read in OCP's way; its data."""
        pair = f"{self.admin['username']}:{self.admin['password']}"
        basic = base64.b64encode(pair.encode()).decode()
        return self.ask("GET", path, None, {"Authorization": f"Basic {basic}"})["data"]

    def install(self, hosts: Sequence[LabHost]) -> int:
        """Submit INSTALL_AGENT with a password for each; the job's id."""
        body = {"job_type": "INSTALL_AGENT", "hosts": [lab_row(host) for host in hosts]}
        return int(self.call("/api/job/install/", body)["job_id"])

    def finish(self, job_id: int, within: float = 1800, look: float = LOOK) -> str:
        """Look at the job as a client does until it is over; its status."""
        deadline = time.monotonic() + within
        while True:
            said = self.call(f"/api/job/{job_id}/details/", {"pagesize": 1})
            if said["status"] not in ("PENDING", "RUNNING"):
                return str(said["status"])
            if time.monotonic() > deadline:
                raise RuntimeError(self.describe(job_id))
            time.sleep(look)

    def is_idle(self) -> bool:
        """Whether no run has a process any more."""
        return not find_processes(root=self.installation.run_folder)

    def describe(self, job_id: int) -> str:
        """How a job stands, for an error: the first few hosts are enough."""
        lines = self.installation.describe(job_id).splitlines()
        lines = [line for line in lines if ": success " not in line]
        return "\n".join(line[:300] for line in [*lines[:8], *lines[-8:]])

    def must_succeed(self, job_id: int, spared: float = 0.0, look: float = LOOK) -> int:
        """An error unless all but this share of the hosts succeed; how many failed.

        On a machine that is busy with other things a few of hundreds are given up, rightly.
        """
        self.finish(job_id, look=look)
        counts = self.installation.job(job_id).counts
        if counts["failed"] > spared * sum(counts.values()):
            raise RuntimeError(self.describe(job_id))
        return int(counts["failed"])


@contextlib.contextmanager
def installation(workers: int = 2, **settings: object) -> Iterator[Asked]:
    """A fresh `hostler up` with a real agent's package, counted from its first instruction on."""
    meter = CpuMeter("controller")
    here = Installation(workers=workers, log_level="WARNING", **settings)
    try:
        with meter.counting():
            here.start()
        with transaction(here.ctx.engine) as session:
            prefer_package(session, add_package(session, agent_package()))
        yield Asked(here, meter)
    finally:
        here.throw_away()
        meter.close()


@functools.cache
def agent_package() -> Path:
    """node_exporter's package where the distribution has it, else a small agent's."""
    manifest = hashlib.sha256(MANIFEST.read_bytes()).hexdigest()[:12]
    kept = CACHE / f"agent-{manifest}.tar.gz"
    if kept.exists():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        made = fetch_default_package(folder)
    except NotToBeHad:
        made = a_package(folder)
    made.rename(kept)
    shutil.rmtree(folder)
    return kept


def lab_row(host: LabHost) -> dict[str, Any]:
    return host_row(host.address, port=host.port, password=host.password)


def host_row(address: str, *, port: int = 22, password: str = "correct horse") -> dict[str, Any]:
    """A host as a caller sends it, with its login in plain text."""
    return {
        "bk_biz_id": 2,
        "bk_cloud_id": 0,
        "ap_id": 1,
        "os_type": "LINUX",
        "inner_ip": address,
        "account": "root",
        "port": port,
        "auth_type": "PASSWORD",
        "password": password,
    }
