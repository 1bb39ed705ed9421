"""What a package says of itself, checked before anybody believes it."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from app.domain.errors import InvalidRequest

FILE_NAME = "hostler-package.yaml"
KINDS = ("agent", "proxy", "plugin")
SYSTEMS = ("LINUX",)
CPUS = ("x86_64", "aarch64")
CPU_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
FORMATS = ("env", "ini", "json", "raw")
READY_KINDS = ("http", "tcp", "none")

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,62}")
PLACE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|[0-9]+")


def parse_manifest(text: str) -> dict[str, Any]:
    """The checked manifest in this YAML (or JSON) text."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _wrong(f"is not YAML: {str(error).splitlines()[0]}") from None
    return check_manifest(found)


def check_manifest(found: Any) -> dict[str, Any]:
    """The manifest with one spelling for os and cpu, or a refusal that names the field."""
    if not isinstance(found, dict):
        raise _wrong("is not a mapping")
    if unknown := sorted(set(map(str, found)) - set(FIELDS)):
        raise _wrong(f"knows no {', '.join(unknown)}; it knows {', '.join(FIELDS)}")
    if missing := [name for name in REQUIRED if not found.get(name)]:
        raise _wrong(f"lacks {', '.join(missing)}")
    manifest = dict(found)
    manifest["version"] = str(manifest["version"])
    manifest["os"] = str(manifest["os"]).upper()
    cpu = str(manifest["cpu"]).lower()
    manifest["cpu"] = CPU_ALIASES.get(cpu, cpu)
    for name, is_right in FIELDS.items():
        if name in manifest and not is_right(manifest[name]):
            raise _wrong(f"has a wrong {name}: {json.dumps(manifest[name], default=str)[:200]}")
    return manifest


def named_files(manifest: Mapping[str, Any]) -> list[str]:
    """The files of the archive the manifest needs."""
    sources = [item["source"] for item in manifest.get("config", [])]
    return [manifest["exec"][0], *sources]


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(f"The package's manifest {what}.", field=FILE_NAME)


# --- What is right ------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_path(value: Any) -> bool:
    """A path that stays in its folder."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts and value == str(path)


def _is_command(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        return False
    return _is_path(value[0]) and "$" not in value[0]


def _is_config(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and set(item) <= {"path", "format", "source"}
        and _is_path(item.get("path"))
        and _is_path(item.get("source"))
        and item.get("format", "raw") in FORMATS
        for item in value
    )


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value).groups >= 1
    except re.error:
        return False


def _is_ready(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - {"kind", "port", "path", "within"}:
        return False
    if value.get("kind") == "none":
        return True
    return (
        value.get("kind") in READY_KINDS
        and PLACE.fullmatch(str(value.get("port"))) is not None
        and str(value.get("path", "/")).startswith("/")
        and _is_number(value.get("within", 30))
    )


def _is_reload(value: Any) -> bool:
    return value in ("restart", {"signal": "HUP"})


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words


FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": _matches(NAME),
    "kind": _is_one_of(*KINDS),
    "version": _matches(VERSION),
    "os": _is_one_of(*SYSTEMS),
    "cpu": _is_one_of(*CPUS),
    "description": _is_text,
    "exec": _is_command,
    "config": _is_config,
    "environment": _is_path,
    "defaults": lambda value: isinstance(value, dict),
    "version_command": _is_command,
    "version_pattern": _is_pattern,
    "reported_version": _is_text,
    "ready": _is_ready,
    "stays_up": _is_number,
    "reload": _is_reload,
    "stop_timeout": _is_number,
}
REQUIRED = ("name", "kind", "version", "os", "cpu", "exec")
