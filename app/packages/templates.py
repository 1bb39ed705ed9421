"""Check what a package's files and arguments ask to be filled in, before any host is asked to."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.domain.errors import InvalidRequest
from app.domain.sentences import say

MOST_TEMPLATE_BYTES = 1024 * 1024
BUILT_IN = ("address", "current", "data", "data_path", "etc", "log", "name", "version")
PLACE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")
ENV_LINE = re.compile(r"\s*(?:[#;].*|[A-Za-z_][A-Za-z0-9_]*\s*=.*)?")


def check_template(name: str, content: bytes, written_as: str, manifest: Mapping[str, Any]) -> None:
    """Refuse a file of the package that asks for what nobody gives, or is not of its format."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(say("{file} of the package is no UTF-8 text.", file=name)) from None
    refuse_unknown(name, [text], manifest)
    if written_as == "json":
        _check_json(name, text)
    elif written_as == "env":
        _check_env(name, text)


def refuse_unknown(where: str, texts: Iterable[str], manifest: Mapping[str, Any]) -> None:
    """Refuse `${name}` where the name is neither built in nor one of the manifest's defaults."""
    known = {*BUILT_IN, *manifest.get("defaults", {})}
    for text in texts:
        for match in PLACE.finditer(text):
            if match[1] and match[1] not in known:
                raise InvalidRequest(
                    say(
                        "{where} asks for ${{{name}}}, which nobody gives. Name it under defaults,"
                        " or write one of: {known}. A dollar sign is written $$.",
                        where=where,
                        name=match[1],
                        known=", ".join(sorted(known)),
                    )
                )


def _check_json(name: str, text: str) -> None:
    """A place stands where a value does, not inside a string: it brings its own quotes."""
    try:
        json.loads(PLACE.sub(lambda match: '"x"' if match[1] else "$", text))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            say(
                "{file} of the package is no JSON once it is filled in ({why}). Write a place"
                " without quotes around it: it brings its own.",
                file=name,
                why=str(error)[:200],
            )
        ) from None


def _check_env(name: str, text: str) -> None:
    joined = re.sub(r"\\\n", "", text)
    for number, line in enumerate(joined.splitlines(), start=1):
        if not ENV_LINE.fullmatch(line):
            raise InvalidRequest(
                say(
                    "Line {number} of {file} of the package is no NAME=value: {line}",
                    number=number,
                    file=name,
                    line=line[:200],
                )
            )
