"""A planted password and a planted key are found nowhere but in the run's private folder."""

import base64
import json
import os
import secrets
import stat
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.models.base import reading
from app.models.work import EventRow, LogChunk, Run
from tests.lab.agents import is_starting, look_at_agents, on_all, open_gates
from tests.lab.fixtures import LabHosts
from tests.lab.hosts import LabHost
from tests.lab.installation import Installation, wait_for

HOST_FOLDERS = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var")


class Canary:
    """A password and a key nobody else has, and every form in which they would be recognised."""

    def __init__(self, folder: Path) -> None:
        self.core = secrets.token_hex(12)
        self.password = f'it\'s "{{{{ 1 }}}}" $(x) %s-{self.core}'
        self.key_file = folder / "canary"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", self.key_file]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        self.key = self.key_file.read_text()
        self.public_key = self.key_file.with_suffix(".pub").read_text()
        inner = self.key.splitlines()[2:-1]  # the first line is much the same in all keys
        forms = [self.core, base64.b64encode(self.password.encode()).decode(), *inner]
        self.forms = [form.encode() for form in forms]
        self.patterns = "\n".join(forms)

    def is_in(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)

    def files(self, *roots: Path) -> list[Path]:
        """The files that hold it; another process looks, as our own closing of a database's
        file would drop the locks our connections have on it."""
        search = ["grep", "-rlasF", "--devices=skip", "--file=-", *map(str, roots)]
        found = subprocess.run(search, input=self.patterns, capture_output=True, text=True)
        return [Path(line) for line in found.stdout.splitlines()]

    def processes(self) -> Iterator[str]:
        """Command lines and environments, here and on every host: a host's are seen from here."""
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    content = (process / name).read_bytes()
                except OSError:
                    continue  # ended meanwhile
                if self.is_in(content):
                    yield f"{process / name}: {content!r}"

    def on_host(self, host: LabHost) -> list[str]:
        search = ["grep", "-rlasF", "--devices=skip", "--file=-", *HOST_FOLDERS]
        found = host.run(*search, input=self.patterns, check=False).stdout.splitlines()
        journal = host.run("journalctl", "--all", "--no-pager", "--output=export").stdout
        return [*found, *(["the journal"] if self.is_in(journal.encode()) else [])]


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path)


def test_planted_logins_are_found_nowhere(
    lab_hosts: LabHosts, installation: Installation, canary: Canary
) -> None:
    version = installation.agents.gated()
    hosts = by_password, by_sudo, by_key, refusing = lab_hosts(4)
    for host, account in ((by_password, "root"), (by_sudo, "ops")):
        host.run("chpasswd", input=f"{account}:{canary.password}\n")
    # sudo asks for the password too
    by_sudo.write("/etc/sudoers.d/ops", "ops ALL=(ALL) ALL\n")
    by_key.run("sh", "-c", "cat >>/root/.ssh/authorized_keys", input=canary.public_key)
    rows = [
        row(by_password, password=canary.password),
        row(by_sudo, account="ops", password=canary.password),
        row(by_key, auth_type="KEY", key=canary.key),
        row(refusing, password=canary.password),
    ]
    answers = [
        installation.call(
            "/api/job/install/",
            {
                "job_type": "INSTALL_AGENT",
                "hosts": rows,
                "agent_setup_info": {"version": version},
            },
        )
    ]
    job = int(answers[0]["data"]["job_id"])
    wait_for(lambda: all(on_all(is_starting, hosts[:3])), lambda: installation.describe(job))

    assert list(canary.processes()) == []
    private = canary.files(Path("/dev/shm"), installation.folder)
    assert private, "the run's own folder holds the logins while it runs"
    for path in private:
        assert path.is_relative_to(installation.run_folder), path
        folder = installation.run_folder / path.relative_to(installation.run_folder).parts[0]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    look_into_what_is_stored(installation, canary, job)
    assert on_all(canary.on_host, hosts) == [[]] * 4

    open_gates(hosts)
    installation.finish(job)
    assert {seen.state for seen in look_at_agents(hosts[:3]).values()} == {"active"}
    failed = installation.parts(job)[refusing.address]
    assert failed.cause == "auth", failed.reason
    answers += ask_everything(installation, job, hosts)
    assert not canary.is_in(json.dumps(answers, ensure_ascii=False).encode())
    assert list(canary.processes()) == []
    assert canary.files(Path("/dev/shm"), installation.folder) == []
    look_into_what_is_stored(installation, canary, job)
    assert on_all(canary.on_host, hosts) == [[]] * 4


def row(host: LabHost, account: str = "root", **login: str) -> dict[str, Any]:
    plain = {
        "bk_biz_id": 2,
        "bk_cloud_id": 0,
        "ap_id": 1,
        "os_type": "LINUX",
        "inner_ip": host.address,
        "account": account,
        "port": host.port,
        "auth_type": "PASSWORD",
    }
    return plain | login


def look_into_what_is_stored(installation: Installation, canary: Canary, job: int) -> None:
    """What files hide: compressed logs, and whatever Redis has only in memory."""
    redis = installation.ctx.queue.connection
    for key in redis.scan_iter():
        assert not canary.is_in(key + (redis.dump(key) or b"")), key
    with reading(installation.ctx.engine) as session:
        blobs = session.scalars(select(Run.log_blob).where(Run.job_id == job))
        chunks = session.scalars(select(LogChunk.content))
        events = session.scalars(select(EventRow.data).where(EventRow.job_id == job))
        logs = [zlib.decompress(blob) for blob in blobs if blob] + list(chunks)
        assert not any(map(canary.is_in, logs))
        assert not canary.is_in(json.dumps(list(events), ensure_ascii=False).encode())


def ask_everything(
    installation: Installation, job: int, hosts: Iterable[LabHost]
) -> list[dict[str, Any]]:
    """Every answer that speaks of this job or these hosts."""
    ids = installation.host_ids(list(hosts))
    names = [f"host|instance|host|{host_id}" for host_id in ids.values()]
    paths: list[tuple[str, dict[str, Any]]] = [
        (f"/api/job/{job}/details/", {"page": 1, "pagesize": -1}),
        ("/api/job/job_list/", {"page": 1, "pagesize": 10}),
        ("/api/host/search/", {"page": 1, "pagesize": 100, "bk_biz_id": [2]}),
        *((f"/api/job/{job}/log/", {"instance_id": name}) for name in names),
        *((f"/api/job/{job}/collect_log/", {"instance_id": name}) for name in names),
    ]
    answers = [installation.call(path, body) for path, body in paths]
    assert [answer["result"] for answer in answers] == [True] * len(paths), answers
    return answers


def test_the_key_file_alone_opens_the_stored_logins(installation: Installation) -> None:
    private = [installation.data_dir / name for name in ("keys", "admin.json")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600, 0o600]
    assert stat.S_IMODE(installation.data_dir.stat().st_mode) == 0o700
    open_to_others = [
        path
        for path in installation.data_dir.rglob("*")
        if path.is_file() and stat.S_IMODE(os.stat(path).st_mode) & 0o077
    ]
    assert open_to_others == []
