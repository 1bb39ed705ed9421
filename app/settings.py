"""Every setting, with a default that works on a laptop; read once, at the start."""

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from app.domain.errors import InvalidRequest

CHECKOUT = Path(__file__).resolve().parent.parent
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How this installation behaves; HOSTLER_<NAME> in the environment, or HOSTLER_<NAME>_FILE."""

    data_dir: Path = field(default_factory=lambda: Path("data").resolve())
    database_url: str = ""  # empty: SQLite in data_dir
    redis_url: str = ""  # empty: the embedded Redis of `hostler up`, on a socket in data_dir
    host: str = "127.0.0.1"  # where the API listens
    port: int = 8080
    site_url: str = ""  # how people, and hosts installed by hand, reach us; empty: host and port
    package_host: str = ""  # hosts fetch packages from here; empty: every address, IPv6 too
    package_port: int = 8081
    workers: int = 2
    api_threads: int = 16
    forks: int = 100  # at most; free memory may allow fewer
    fork_memory_mib: int = 5  # a host's tenth of a crew, and its ssh, with room
    slice_size: int = 0  # 0: what the job type says
    run_dir: Path = Path("/dev/shm")  # noqa: S108 - tmpfs; each run makes a private folder in it
    quick_handshake: bool = True  # off: ssh's own order, which costs a host 50 ms more
    remote_python: str = "/usr/bin/python3"
    service_manager: str = "auto"
    become: bool = True  # sudo on hosts that are entered as anybody but root
    setup_path: str = "/opt/hostler"
    standing_access: bool = True
    trusted_proxies: str = ""  # addresses and networks whose X-Forwarded-… is believed
    default_agent_package: bool = True  # register node_exporter at the first start
    language: str = "en"
    max_body_mib: int = 32
    event_retention_days: int = 30
    log_retention_days: int = 90
    audit_retention_days: int = 365
    lease_seconds: float = 15.0  # a lease not renewed for so long is gone
    renew_seconds: float = 5.0
    keeper_seconds: float = 2.0
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> "Settings":
        """The settings of this environment; overrides that are None do not count.

        One that cannot be read raises InvalidRequest with its name; an empty one is left out where
        only a number, yes or no, a word or a path will do.
        """
        _refuse_misspelt(environ)
        values = {
            item.name: _convert(item.name, item.type, text)
            for item in fields(cls)
            if (text := _read(environ, item.name)) is not None
            and (text or (item.type is str and item.name not in WORDS))
        }
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'hostler.sqlite3'}"

    @property
    def redis(self) -> str:
        return self.redis_url or f"unix://{self.data_dir / 'redis.sock'}"

    @property
    def site(self) -> str:
        return self.site_url.rstrip("/") or reach(self.host, self.port)

    @property
    def run_folder(self) -> Path:
        """Where this installation's runs keep their private folders, apart from any other's."""
        return self.run_dir / f"h{hashlib.sha256(bytes(self.data_dir)).hexdigest()[:8]}"

    @property
    def key_file(self) -> Path:
        return self.data_dir / "keys"


NOT_SETTINGS = frozenset(
    {"HOSTLER_URL", "HOSTLER_APP_CODE", "HOSTLER_APP_SECRET", "HOSTLER_PYTHON"}
    | {"HOSTLER_RUN", "HOSTLER_FOLDER", "HOSTLER_PARENT", "HOSTLER_ROOT", "HOSTLER_EVENTS"}
)
NOT_SETTINGS_EITHER = ("HOSTLER_LAB", "HOSTLER_TEST")  # beginnings


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Name the variables that look like settings and are none: nobody else would notice them."""
    known = {f"HOSTLER_{item.name.upper()}" for item in fields(Settings)}
    for name in sorted(environ):
        plain = name.removesuffix("_FILE")
        if not name.startswith("HOSTLER_") or plain in known or name in NOT_SETTINGS:
            continue
        if name.startswith(NOT_SETTINGS_EITHER):
            continue
        near = get_close_matches(plain, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InvalidRequest(f"There is no setting {name}{hint}")


def reach(host: str, port: int) -> str:
    """The URL of a listener, from this machine."""
    name = WILDCARDS.get(host) or (f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def _read(environ: Mapping[str, str], name: str) -> str | None:
    variable = f"HOSTLER_{name.upper()}"
    if not (path := environ.get(f"{variable}_FILE")):
        return environ.get(variable)
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"{variable}_FILE is {path!r}, which cannot be read: {error}."
        ) from None


FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
WORDS = {
    "service_manager": ("auto", "systemd", "process"),
    "language": ("en", "zh"),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
}
MOST = {"port": 65535, "package_port": 65535}
AT_LEAST_ONE = frozenset({"api_threads", "forks", "fork_memory_mib", "max_body_mib"})


def _convert(name: str, kind: Any, text: str) -> Any:
    if name in WORDS:
        return _word(name, text)
    if kind is bool:
        return _flag(name, text)
    if kind is int:
        return _whole(name, text)
    return _seconds(name, text) if kind is float else kind(text)


def _word(name: str, text: str) -> str:
    words = WORDS[name]
    known = {word.lower(): word for word in words}
    if found := known.get(text.strip().lower()):
        return found
    raise _wrong(name, text, f"{', '.join(words[:-1])} or {words[-1]}")


def _flag(name: str, text: str) -> bool:
    if (found := FLAGS.get(text.strip().lower())) is not None:
        return found
    raise _wrong(name, text, "yes or no")


def _whole(name: str, text: str) -> int:
    least, most = int(name in AT_LEAST_ONE), MOST.get(name, math.inf)
    try:
        if least <= (number := int(text)) <= most:
            return number
    except ValueError:
        pass
    bounds = f"from {least} to {most}" if name in MOST else f"of at least {least}"
    raise _wrong(name, text, f"a whole number {bounds}")


def _seconds(name: str, text: str) -> float:
    try:
        if math.isfinite(number := float(text)) and number > 0:
            return number
    except ValueError:
        pass
    raise _wrong(name, text, "a number greater than 0")


def _wrong(name: str, text: str, takes: str) -> InvalidRequest:
    return InvalidRequest(f"HOSTLER_{name.upper()} is {text!r}; it takes {takes}.")
