"""Build a package from a folder or from a .deb."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from app.domain.errors import InvalidRequest, NotFound
from app.packages.archive import File, inspect, read_deb, write_archive
from app.packages.manifest import FILE_NAME, check_manifest

MANIFESTS = Path(__file__).parent / "manifests"


def build_package(source: Path, out: Path, **overrides: Any) -> Path:
    """Pack a folder or a .deb; `out` is the archive, or a folder for it. The result is its path."""
    if source.is_dir():
        manifest, files = _from_folder(source)
    elif source.is_file():
        manifest, files = _from_deb(source)
    else:
        raise NotFound(f"There is no {source}.")
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
        raise InvalidRequest(f"{folder} has no {FILE_NAME} that describes the package.")
    return _read(described), _files_of(folder)


def _from_deb(path: Path) -> tuple[dict[str, Any], dict[str, File]]:
    fields, content = read_deb(path)
    folder = MANIFESTS / fields["Package"]
    if not folder.is_dir():
        known = ", ".join(sorted(item.name for item in MANIFESTS.iterdir()))
        raise InvalidRequest(
            f"Nothing is known about the Debian package {fields['Package']} (known: {known}); "
            f"unpack it, describe it in a {FILE_NAME}, and build from that folder."
        )
    manifest = _read(folder / FILE_NAME)
    taken = {
        to: _take(content, source, path.name) for to, source in manifest.pop("take", {}).items()
    }
    version = _without_epoch(fields["Version"])
    manifest.setdefault("version", version)
    manifest.setdefault("reported_version", _upstream(version))
    manifest.setdefault("cpu", fields["Architecture"])
    return manifest, _files_of(folder) | taken


def _take(content: Mapping[str, File], name: str, deb: str) -> File:
    if name not in content:
        raise InvalidRequest(f"{deb} holds no {name}.")
    return content[name]


def _without_epoch(version: str) -> str:
    return version.partition(":")[2] or version


def _upstream(version: str) -> str:
    """The version the program itself was given: without Debian's revision."""
    return re.sub(r"(-[^-]*)$", "", version)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path} does not describe a package.")
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
