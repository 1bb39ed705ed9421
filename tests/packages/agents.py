"""Small agents made into packages: real programs that answer, exit or linger as asked."""

import platform
import textwrap
from pathlib import Path
from typing import Any

import yaml

from app.packages.build import build_package
from app.packages.manifest import FILE_NAME

PREFACE = """\
    #!/usr/bin/python3
    import http.server, os, signal, socket, sys
    if sys.argv[1:] == ["--version"]:
        sys.exit(print("tiny VERSION"))
"""

SERVES = """\
    host, _, port = sys.argv[1].rpartition(":")
    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(repr((sorted(os.environ.items()), sys.argv)).encode())
        def log_message(self, *_):
            pass
    signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"read my configuration again\\n"))
    Server((host.strip("[]"), int(port)), Handler).serve_forever()
"""

EXITS = """\
    print("cannot open the database", flush=True)
    sys.exit(3)
"""

LINGERS = """\
    signal.pause()
"""

ENVIRONMENT = """\
BT_SPEED_LIMIT=${bt_speed_limit}
PEER_EXCHANGE=${peer_exchange_switch_for_agent}
COMPRESSION=${enable_compression}
DATA_PATH=${data_path}
NOTE=${note}
"""

CONFIG = {
    "bt_speed_limit": 0,
    "peer_exchange_switch_for_agent": 0,
    "enable_compression": False,
    "note": "",
}


def a_folder(folder: Path, version: str = "1.0", behaviour: str = SERVES, **over: Any) -> Path:
    """A folder that can be built into a package; `over` changes its manifest."""
    program = textwrap.dedent(PREFACE).replace("VERSION", version) + textwrap.dedent(behaviour)
    (folder / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    (folder / "bin/tiny").write_text(program)
    (folder / "bin/tiny").chmod(0o755)
    (folder / "etc/tiny.env").write_text(ENVIRONMENT)
    manifest = {
        "name": "tiny",
        "kind": "agent",
        "version": version,
        "os": "LINUX",
        "cpu": _this_cpu(),
        "exec": ["bin/tiny", "${address}:${port}"],
        "config": [{"path": "tiny.env", "format": "env", "source": "etc/tiny.env"}],
        "environment": "tiny.env",
        "defaults": {"port": 9100, **CONFIG},
        "version_command": ["bin/tiny", "--version"],
        "version_pattern": r"tiny (\S+)",
        "ready": {"kind": "http", "port": "${port}", "path": "/", "within": 50},
        "stays_up": 0.3,
        "stop_timeout": 5,
    }
    (folder / FILE_NAME).write_text(yaml.safe_dump({**manifest, **over}))
    return folder


def a_package(folder: Path, version: str = "1.0", behaviour: str = SERVES, **over: Any) -> Path:
    """A package archive of a small agent."""
    source = a_folder(folder / f"tiny-{version}", version, behaviour, **over)
    return build_package(source, folder / f"tiny-{version}.tar.gz")


def _this_cpu() -> str:
    return {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
