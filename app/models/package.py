"""Archives of agents, proxies and plugins: what they are, and their bytes in chunks."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now


class Package(Base):
    """One archive for one os and cpu; hosts ask for it by its sha256."""

    __tablename__ = "package"
    __table_args__ = (Index("ix_package_kind_os_cpu", "kind", "os", "cpu"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(16))  # agent, proxy, plugin
    version: Mapped[str] = mapped_column(String(64))
    os: Mapped[str] = mapped_column(String(16))
    cpu: Mapped[str] = mapped_column(String(16))
    description: Mapped[str] = mapped_column(default="")
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    size: Mapped[int]
    manifest: Mapped[dict[str, Any]]
    ready: Mapped[bool] = mapped_column(default=False)  # every byte is here
    is_default: Mapped[bool] = mapped_column(default=False)  # wins over a newer one
    created_by: Mapped[str] = mapped_column(String(128), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)


class PackageChunk(Base):
    """At most one MiB of a package; the chunks in order are the archive."""

    __tablename__ = "package_chunk"

    package_id: Mapped[int] = mapped_column(
        ForeignKey("package.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)
