"""Remove a package; what is installed from it stays on the hosts."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.models.package import Package, PackageChunk


def remove_package(session: Session, package: Package) -> None:
    """Forget the package and its bytes; caches drop theirs when they next look."""
    session.execute(delete(PackageChunk).where(PackageChunk.package_id == package.id))
    session.delete(package)
    session.flush()
