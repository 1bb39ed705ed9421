"""The REST API as the command line speaks it: a program like any other."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import requests

from app.settings import Settings

TIMEOUT = 60.0  # seconds
ALL = -1  # the page size that means everything


@dataclass(frozen=True)
class Client:
    """An address, and the program we are there."""

    url: str
    app_code: str
    app_secret: str

    def post(self, path: str, **body: Any) -> Any:
        """The answer's data, or its message as the error a person reads."""
        return self._read(path, body)["data"]

    def install(self, job_type: str, hosts: Sequence[Mapping[str, Any]], **more: Any) -> Any:
        return self.post("/api/job/install/", job_type=job_type, hosts=hosts, **more)

    def details(self, job_id: int) -> Any:
        return self.post(f"/api/job/{job_id}/details/", page=1, pagesize=ALL)

    def logins(self, host_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """How these hosts are logged in to, without the secrets."""
        found = self.post("/api/host/search/", bk_host_id=list(host_ids), pagesize=ALL)["list"]
        return {row["bk_host_id"]: row["identity_info"] for row in found}

    def _read(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        credentials = {"bk_app_code": self.app_code, "bk_app_secret": self.app_secret}
        try:
            response = _session_for(self.url).post(
                self.url.rstrip("/") + path,
                json=body,
                headers={"X-Bkapi-Authorization": json.dumps(credentials)},
                timeout=TIMEOUT,
            )
            answer: dict[str, Any] = response.json()
        except requests.JSONDecodeError as error:
            raise click.ClickException(
                f"{self.url} did not answer like Hostler ({response.status_code}); check --url."
            ) from error
        except requests.RequestException as error:
            raise click.ClickException(
                f"{self.url} does not answer ({_why(error)}); is `hostler up` running there?"
            ) from error
        if not answer.get("result"):
            raise click.ClickException(_complain(answer))
        return answer


def _session_for(url: str) -> requests.Session:
    """Loopback never goes through a proxy, whatever the environment says."""
    session = requests.Session()
    host = urlsplit(url).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    session.trust_env = not is_here
    return session


def open_client(url: str | None, app_code: str | None, secret_file: Path | None) -> Client:
    """What was said on the command line, else the environment, else admin.json."""
    admin_file = Settings.from_env().data_dir / "admin.json"
    admin = _read_admin(admin_file)
    secret = secret_file.read_text().strip() if secret_file else None
    found = {
        "url": url or os.environ.get("HOSTLER_URL") or admin.get("url"),
        "app_code": app_code or os.environ.get("HOSTLER_APP_CODE") or admin.get("app_code"),
        "app_secret": secret or os.environ.get("HOSTLER_APP_SECRET") or admin.get("app_secret"),
    }
    if missing := [name for name, value in found.items() if not value]:
        raise click.ClickException(
            f"Where is Hostler? {', '.join(missing)} unknown: {admin_file} does not say. "
            "Name the folder with --data-dir (HOSTLER_DATA_DIR), or give --url, --app-code and "
            "--app-secret-file (HOSTLER_URL, HOSTLER_APP_CODE, HOSTLER_APP_SECRET)."
        )
    return Client(**{name: str(value) for name, value in found.items()})


def _read_admin(path: Path) -> dict[str, str]:
    try:
        admin = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise click.ClickException(
            f"{path} belongs to somebody else; give --url, --app-code and "
            "--app-secret-file instead."
        ) from error
    except ValueError:
        admin = None
    if not isinstance(admin, dict):
        raise click.ClickException(
            f"{path} is damaged; give --url, --app-code and --app-secret-file instead."
        )
    return admin


def _why(error: requests.RequestException) -> str:
    """What went wrong, without the library's own names for it."""
    match error:
        case requests.Timeout():
            return f"not within {TIMEOUT:g} s"
        case requests.exceptions.SSLError():
            return "its certificate is not accepted"
        case requests.exceptions.ProxyError():
            return "the proxy of the environment does not let us through"
        case requests.ConnectionError():
            return "connection refused or lost"
        case _:
            return str(error)


def _complain(answer: Mapping[str, Any]) -> str:
    """The message, and whatever is said of single hosts."""
    data = answer.get("data")
    said = str(answer.get("message", "It did not work, and no reason was given."))
    lines = [re.sub("（[^（）]*）$", "", said)]  # the code is for programs
    if isinstance(data, dict):
        lines += [f"  {host['ip']}: {host['msg']}" for host in data.get("ip_filter") or ()]
        lines += [f"  {label}: {reason}" for label, reason in (data.get("hosts") or {}).items()]
    return "\n".join(lines)
