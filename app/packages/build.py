"""Build a package from a folder or from a .deb."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.domain.errors import InvalidRequest, NotFound
from app.domain.sentences import say
from app.packages.archive import MOST_MANIFEST_BYTES, File, inspect, write_archive
from app.packages.deb import read_deb
from app.packages.manifest import FILE_NAME, check_manifest, read_manifest

MANIFESTS = Path(__file__).parent / "manifests"


def build_package(source: Path, out: Path, **overrides: Any) -> Path:
    """Pack a folder or a .deb; `out` is the archive, or a folder for it. The result is its path."""
    if source.is_dir():
        manifest, files = _from_folder(source)
    elif source.is_file():
        manifest, files = _from_deb(source)
    else:
        raise NotFound(say("There is no {path}.", path=source))
    manifest.update({name: value for name, value in overrides.items() if value is not None})
    manifest = check_manifest(manifest)
    path = out / archive_name(manifest) if out.is_dir() else out
    write_archive(path, manifest, files)
    try:
        inspect(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def archive_name(manifest: Mapping[str, Any]) -> str:
    """What a package's file is called."""
    return f"{manifest['name']}-{manifest['version']}-{manifest['cpu']}.tar.gz"


def _from_folder(folder: Path) -> tuple[dict[str, Any], dict[str, File]]:
    described = folder / FILE_NAME
    if not described.is_file():
        raise InvalidRequest(
            say("{folder} has no {file} that describes the package.", folder=folder, file=FILE_NAME)
        )
    return _read(described), _files_of(folder)


def _from_deb(path: Path) -> tuple[dict[str, Any], dict[str, File]]:
    deb = read_deb(path)
    fields, folder = deb.fields, MANIFESTS / deb.fields["Package"]
    if fields["Package"] not in known_debs():
        raise InvalidRequest(
            say(
                "Nothing is known about the Debian package {name} (known: {known}); "
                "unpack it, describe it in a {file}, and build from that folder.",
                name=fields["Package"][:100],
                known=", ".join(known_debs()),
                file=FILE_NAME,
            )
        )
    manifest = _read(folder / FILE_NAME)
    take = manifest.pop("take", {})
    content = deb.files(set(take.values()))
    taken = {to: _take(content, source, path.name) for to, source in take.items()}
    version = _without_epoch(fields["Version"])
    manifest.setdefault("version", version)
    manifest.setdefault("reported_version", _upstream(version))
    manifest.setdefault("cpu", fields["Architecture"])
    return manifest, _files_of(folder) | taken


def known_debs() -> list[str]:
    """The names of Debian's packages that can be built from as they are."""
    return sorted(item.name for item in MANIFESTS.iterdir())


def _take(content: Mapping[str, File], name: str, deb: str) -> File:
    if name not in content:
        raise InvalidRequest(say("{file} holds no {name}.", file=deb, name=name))
    return content[name]


def _without_epoch(version: str) -> str:
    return version.partition(":")[2] or version


def _upstream(version: str) -> str:
    """The version the program itself was given: without Debian's revision."""
    return re.sub(r"(-[^-]*)$", "", version)


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MOST_MANIFEST_BYTES:
        raise InvalidRequest(say("{file} is too large to describe a package.", file=path))
    try:
        found = read_manifest(path.read_text(), str(path))
    except UnicodeDecodeError:
        raise InvalidRequest(say("{file} is no UTF-8 text.", file=path)) from None
    if not isinstance(found, dict):
        raise InvalidRequest(say("{file} does not describe a package.", file=path))
    return found


def _files_of(folder: Path) -> dict[str, File]:
    """Every file below the folder but the manifest; links stay links."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            files[name] = File(b"", link=os.readlink(path))
        elif path.is_file() and name != FILE_NAME:
            files[name] = File(path.read_bytes(), is_program=os.access(path, os.X_OK))
    return files
