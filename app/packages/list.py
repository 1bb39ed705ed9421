"""Find packages."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.models.package import Package

ID = re.compile(r"[0-9]{1,9}")


def list_packages(session: Session, kind: str | None = None) -> list[Package]:
    """Every ready package, newest first."""
    query = select(Package).where(Package.ready).order_by(Package.id.desc())
    if kind:
        query = query.where(Package.kind == kind)
    return [*session.scalars(query)]


def get_package(session: Session, wanted: str) -> Package:
    """The package with this id, or with a checksum that begins like this."""
    package = session.get(Package, int(wanted)) if ID.fullmatch(wanted) else None
    if package is None and len(wanted) >= 6:
        begins = Package.sha256.startswith(wanted, autoescape=True)
        found = session.scalars(select(Package).where(begins)).all()
        package = found[0] if len(found) == 1 else None
    if package is None:
        raise NotFound(f"There is no package {wanted}; `hostler package list` shows them.")
    return package
