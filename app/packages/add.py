"""Register a package: verify the archive and store its bytes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.models.package import Package, PackageChunk
from app.packages.archive import MIB, inspect

CHUNK_BYTES = MIB


def add_package(session: Session, path: Path, created_by: str = "") -> Package:
    """The package of this archive; adding the same bytes again changes nothing."""
    if not path.is_file():
        raise NotFound(f"There is no package file {path}.")
    manifest = inspect(path)
    sha256 = _sha256_of(path)
    package = session.scalar(select(Package).where(Package.sha256 == sha256))
    if package and package.ready:
        return package
    if package is None:
        package = _described(manifest, sha256, path.stat().st_size, created_by)
        session.add(package)
        session.flush()
    _store(session, package, path)
    package.ready = True
    session.flush()
    return package


def _described(manifest: dict[str, Any], sha256: str, size: int, created_by: str) -> Package:
    return Package(
        name=manifest["name"],
        kind=manifest["kind"],
        version=manifest["version"],
        os=manifest["os"],
        cpu=manifest["cpu"],
        description=manifest.get("description", ""),
        sha256=sha256,
        size=size,
        manifest=manifest,
        created_by=created_by,
    )


def _store(session: Session, package: Package, path: Path) -> None:
    session.execute(delete(PackageChunk).where(PackageChunk.package_id == package.id))
    for number, content in enumerate(_pieces(path)):
        row = {"package_id": package.id, "number": number, "content": content}
        session.execute(insert(PackageChunk), row)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
