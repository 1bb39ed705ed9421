"""What we manage: businesses, zones, the ways into them, and hosts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now


class Business(Base):
    """Whose hosts they are; recorded on first use."""

    __tablename__ = "business"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(default=now)


def business_called(business_id: int) -> str:
    """What a business is called that nobody has named."""
    return f"business {business_id}"


class AccessPoint(Base):
    """Where hosts fetch packages; the URL `auto` means: from the controller that installs them."""

    __tablename__ = "access_point"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    description: Mapped[str] = mapped_column(default="")
    package_url: Mapped[str] = mapped_column(default="auto")
    package_outer_url: Mapped[str] = mapped_column(default="auto")
    setup_path: Mapped[str] = mapped_column(default="")  # empty: the setting's
    is_enabled: Mapped[bool] = mapped_column(default=True)
    is_default: Mapped[bool] = mapped_column(default=False)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  # wire fields we only keep


class Zone(Base):
    """Where an address is valid; zone 0 is reached directly."""

    __tablename__ = "zone"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    isp: Mapped[str] = mapped_column(default="")
    access_point_id: Mapped[int] = mapped_column(ForeignKey("access_point.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class InstallChannel(Base):
    """Ordered jump hosts used instead of a zone's proxies."""

    __tablename__ = "install_channel"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    zone_id: Mapped[int] = mapped_column(ForeignKey("zone.id"))
    jump_servers: Mapped[list[Any]] = mapped_column(default=list)
    upstream_servers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    is_hidden: Mapped[bool] = mapped_column(default=False)


def label_of(host_id: int | None, inner_ip: str | None, inner_ipv6: str | None) -> str:
    """What people call a host."""
    return inner_ip or inner_ipv6 or f"host {host_id}"


class Host(Base):
    """A machine we manage, unique by (zone, IPv4) and by (zone, IPv6)."""

    __tablename__ = "host"
    __table_args__ = (
        UniqueConstraint("zone_id", "inner_ip"),
        UniqueConstraint("zone_id", "inner_ipv6"),
        Index("ix_host_business", "business_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    business_id: Mapped[int] = mapped_column(ForeignKey("business.id"))
    zone_id: Mapped[int] = mapped_column(ForeignKey("zone.id"))
    node_kind: Mapped[str] = mapped_column(String(16), default="AGENT")
    inner_ip: Mapped[str | None] = mapped_column(String(15))
    inner_ipv6: Mapped[str | None] = mapped_column(String(39))
    outer_ip: Mapped[str] = mapped_column(default="")
    outer_ipv6: Mapped[str] = mapped_column(default="")
    login_ip: Mapped[str] = mapped_column(default="")
    data_ip: Mapped[str] = mapped_column(default="")
    addressing: Mapped[str] = mapped_column(String(8), default="static")
    os_type: Mapped[str] = mapped_column(String(16), default="LINUX")
    cpu_arch: Mapped[str] = mapped_column(String(16), default="")
    os_version: Mapped[str] = mapped_column(default="")
    hostname: Mapped[str] = mapped_column(default="")
    access_point_id: Mapped[int] = mapped_column(ForeignKey("access_point.id"))
    install_channel_id: Mapped[int | None]
    is_manual: Mapped[bool] = mapped_column(default=False)
    port: Mapped[int] = mapped_column(default=22)
    account: Mapped[str] = mapped_column(default="root")
    auth_type: Mapped[str] = mapped_column(String(16), default="PASSWORD")
    standing_account: Mapped[str | None]  # whose authorized_keys holds our key
    standing_way: Mapped[str | None]  # the way our key was proved on; it opens no other
    standing_part_id: Mapped[int | None]  # who brought it
    standing_since: Mapped[datetime | None]
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)  # bt_speed_limit and such
    agent_status: Mapped[str] = mapped_column(String(16), default="NOT_INSTALLED")
    agent_version: Mapped[str | None]
    agent_name: Mapped[str | None]
    agent_seen_at: Mapped[datetime | None]
    is_forgotten: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    @property
    def label(self) -> str:
        return label_of(self.id, self.inner_ip, self.inner_ipv6)

    @property
    def login_address(self) -> str:
        """Where we log in: the login address, else the inner one."""
        return self.login_ip or self.inner_ip or self.inner_ipv6 or ""

    @property
    def way(self) -> str:
        """Where and how we enter: zone, install channel, access point, address, port."""
        channel = self.install_channel_id or "-"
        place = f"{self.login_address} {self.port}"
        return f"{self.zone_id} {channel} {self.access_point_id} {place}"

    @property
    def has_standing_access(self) -> bool:
        """Whether our key may be used: it was proved on this very way (design.md §9)."""
        return self.standing_account is not None and self.standing_way == self.way

    def drop_standing_access(self) -> None:
        """Our key is on the host no more."""
        self.standing_account = self.standing_way = None
        self.standing_part_id = self.standing_since = None


LOGIN_ADDRESS = func.coalesce(
    func.nullif(Host.login_ip, ""), Host.inner_ip, Host.inner_ipv6, ""
)  # Host.login_address, for the database


class HostLock(Base):
    """One run at a time changes a host."""

    __tablename__ = "host_lock"

    host_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    run_id: Mapped[int] = mapped_column(index=True)
    job_id: Mapped[int]
    taken_at: Mapped[datetime] = mapped_column(default=now)
