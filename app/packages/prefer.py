"""Make a package the one that is installed when no version is asked for."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.models.package import Package


def prefer_package(session: Session, package: Package) -> None:
    """From now on this one is the default of its kind, os and cpu."""
    session.execute(
        update(Package)
        .where(Package.kind == package.kind, Package.os == package.os, Package.cpu == package.cpu)
        .values(is_default=False)
    )
    package.is_default = True
    session.flush()
