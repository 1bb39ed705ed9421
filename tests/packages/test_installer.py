"""A person pipes one program into python3 on a host; it installs and reports."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.models.base import transaction
from app.packages.add import add_package
from app.packages.choose import describe_candidate
from app.packages.installer import make_installer
from app.packages.sign import sign_url, signing_key
from app.settings import Settings
from tests.packages.agents import EXITS, SERVES, a_package
from tests.packages.test_serve import HOUR
from tests.playbooks.host import PYTHON, Host


class Reports(HTTPServer):
    """Where a host reports; keeps what it was told."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Receiver)


class Receiver(BaseHTTPRequestHandler):
    server: Reports

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def reports() -> Iterator[Reports]:
    with Reports() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "root").mkdir()
    host = Host(tmp_path / "root")
    yield host
    host.clear()


@pytest.mark.parametrize(
    ("behaviour", "status", "cause"), [(SERVES, "DONE", None), (EXITS, "FAILED", "agent_exited")]
)
def test_the_installer_installs_and_reports(
    settings: Settings,
    engine: Engine,
    listener: str,
    reports: Reports,
    host: Host,
    tmp_path: Path,
    behaviour: str,
    status: str,
    cause: str | None,
) -> None:
    with transaction(engine) as session:
        package = add_package(session, a_package(tmp_path / "built", behaviour=behaviour))
    url = sign_url(listener, package.sha256, signing_key(settings.key_file), HOUR)
    note = '\'""" {}\n'
    arguments = {
        "packages": [describe_candidate(package, url)],
        "config": {"address": "127.0.0.1", "port": host.port, "note": note},
    }
    report_to = f"http://127.0.0.1:{reports.server_port}/backend/report_log/"

    done = subprocess.run(
        [PYTHON, "-"],
        input=make_installer(arguments, report_to, "a-token"),
        env={"PATH": os.environ["PATH"], "HOSTLER_ROOT": str(host.root)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == (1 if cause else 0), done.stderr
    (report,) = reports.received
    assert report["token"] == "a-token"
    last = report["logs"][-1]
    assert (last["status"], last["cause"]) == (status, cause)
    assert [log["step"] for log in report["logs"]][:2] == ["check", "fetch"]
    assert (host.pid is None) == bool(cause)
    assert last["log"] in done.stdout
