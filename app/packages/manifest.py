"""What a package says of itself, checked before anybody believes it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from app.domain.errors import InvalidRequest
from app.domain.sentences import Sentence, say
from app.packages.templates import refuse_unknown
from app.packages.yaml_text import read_yaml

FILE_NAME = "hostler-package.yaml"
KINDS = ("agent", "proxy", "plugin")
SYSTEMS = ("LINUX",)
CPUS = ("x86_64", "aarch64")
CPU_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
FORMATS = ("env", "ini", "json", "raw")
READY_KINDS = ("http", "tcp", "none")

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,62}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
MODE = re.compile(r"0?[0-7][0-7][0145]")  # nobody else may write what a service reads
PLACE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|[0-9]+")


def parse_manifest(text: str) -> dict[str, Any]:
    """The checked manifest in this YAML (or JSON) text."""
    return check_manifest(read_manifest(text, FILE_NAME))


def read_manifest(text: str, file: str) -> Any:
    """What this YAML text says, unchecked; versions stay as they are written."""
    return read_yaml(text, file, as_written=("version", "reported_version"))


def check_manifest(found: Any) -> dict[str, Any]:
    """The manifest with one spelling for os and cpu, or a refusal that names the field."""
    if not isinstance(found, dict):
        raise _wrong(say("The package's manifest is not a mapping."))
    if unknown := sorted(set(map(str, found)) - set(FIELDS)):
        raise _wrong(
            say(
                "The package's manifest knows no {unknown}; it knows {known}.",
                unknown=", ".join(unknown)[:200],
                known=", ".join(FIELDS),
            )
        )
    if missing := [name for name in REQUIRED if not found.get(name)]:
        raise _wrong(say("The package's manifest lacks {names}.", names=", ".join(missing)))
    manifest = dict(found)
    manifest["version"] = str(manifest["version"])
    manifest["os"] = str(manifest["os"]).upper()
    cpu = str(manifest["cpu"]).lower()
    manifest["cpu"] = CPU_ALIASES.get(cpu, cpu)
    for name, field in FIELDS.items():
        if name in manifest and not field.is_right(manifest[name]):
            raise _wrong(
                say(
                    "The package's manifest has a wrong {field}: {value}. It takes {right}.",
                    field=name,
                    value=json.dumps(manifest[name], default=str)[:200],
                    right=field.takes,
                )
            )
    _check_places(manifest)
    return manifest


def _check_places(manifest: Mapping[str, Any]) -> None:
    """Every name that is to be filled in is one somebody gives."""
    refuse_unknown("exec", manifest["exec"][1:], manifest)
    refuse_unknown("version_command", manifest.get("version_command", [""])[1:], manifest)
    refuse_unknown("ready", [str(manifest.get("ready", {}).get("port", ""))], manifest)


def named_files(manifest: Mapping[str, Any]) -> list[str]:
    """The files of the archive the manifest needs."""
    sources = [item["source"] for item in manifest.get("config", [])]
    return [manifest["exec"][0], *sources]


def _wrong(what: Sentence) -> InvalidRequest:
    return InvalidRequest(what, field=FILE_NAME)


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
        and set(item) <= {"path", "format", "source", "mode", "owner"}
        and _is_path(item.get("path"))
        and _is_path(item.get("source"))
        and item.get("format", "raw") in FORMATS
        and MODE.fullmatch(str(item.get("mode", "600"))) is not None
        and ACCOUNT.fullmatch(str(item.get("owner", "root"))) is not None
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


def _is_account(value: Any) -> bool:
    return isinstance(value, str) and ACCOUNT.fullmatch(value) is not None


@dataclass(frozen=True)
class Field:
    """A key of the manifest: which values are right, and what to say of one that is not."""

    is_right: Callable[[Any], bool]
    takes: Sentence


A_PROGRAM = say(
    "a list: a program of the package, by its path in it and without $, then its arguments"
)
SECONDS = say("a number of seconds")
ONE_LINE = say("a text")
FIELDS: dict[str, Field] = {
    "name": Field(_matches(NAME), say("small letters, digits, _ and -, a letter first")),
    "kind": Field(_is_one_of(*KINDS), say("one of {words}", words=", ".join(KINDS))),
    "version": Field(_matches(VERSION), say("letters, digits and . + ~ _ -, no space")),
    "os": Field(_is_one_of(*SYSTEMS), say("one of {words}", words=", ".join(SYSTEMS))),
    "cpu": Field(_is_one_of(*CPUS), say("one of {words}", words=", ".join(CPUS))),
    "description": Field(_is_text, ONE_LINE),
    "exec": Field(_is_command, A_PROGRAM),
    "user": Field(_is_account, say("the name of an account of the hosts")),
    "config": Field(
        _is_config,
        say(
            "a list of {{path, source, format, mode, owner}}: paths that stay in their folder;"
            " format one of {formats}; mode such as 640, never writable for others",
            formats=", ".join(FORMATS),
        ),
    ),
    "environment": Field(_is_path, say("the path of one of the config files")),
    "defaults": Field(lambda value: isinstance(value, dict), say("a mapping of names to values")),
    "version_command": Field(_is_command, A_PROGRAM),
    "version_pattern": Field(_is_pattern, say("a regular expression with one group")),
    "reported_version": Field(_is_text, ONE_LINE),
    "ready": Field(
        _is_ready,
        say(
            "{{kind: none}}, or kind http or tcp with a port (a number or ${{name}}), and perhaps a"
            " path that begins with / and within, a number of seconds"
        ),
    ),
    "stays_up": Field(_is_number, SECONDS),
    "reload": Field(_is_reload, say("restart, or {{signal: HUP}}")),
    "stop_timeout": Field(_is_number, SECONDS),
}
REQUIRED = ("name", "kind", "version", "os", "cpu", "exec")
