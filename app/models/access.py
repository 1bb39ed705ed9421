"""Who may do what, and every secret: people, programs, logins, keys, and what was done."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, now

BUSINESSES = JSON(none_as_null=True)  # NULL means all of them


class Credential(Base):
    """A login someone sent for a host; never changed, only refused or wiped."""

    __tablename__ = "credential"
    __table_args__ = (Index("ix_credential_unwiped", "wiped_at", "expires_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    host_id: Mapped[int] = mapped_column(index=True)
    job_id: Mapped[int | None] = mapped_column(index=True)  # the job that brought it
    kind: Mapped[str] = mapped_column(String(16))
    account: Mapped[str] = mapped_column(String(255))
    # where it was given for
    address: Mapped[str] = mapped_column(String(39), default="", server_default=text("''"))
    port: Mapped[int]
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)  # NULL once wiped
    retention: Mapped[int | None]  # days, as the caller said it
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]  # NULL: when no job needs it any more
    wiped_at: Mapped[datetime | None]
    refused_at: Mapped[datetime | None]  # when the host last did not accept it

    @property
    def purpose(self) -> str:
        return credential_purpose(self.host_id, self.kind, self.account, self.port)


def credential_purpose(host_id: int, kind: str, account: str, port: int) -> str:
    """What a login is sealed for: moved to another host or account it does not open."""
    return f"credential:{host_id}:{kind}:{port}:{account}"


class ZoneKey(Base):
    """Hostler's own login key in one zone."""

    __tablename__ = "zone_key"

    id: Mapped[int] = mapped_column(primary_key=True)
    zone_id: Mapped[int] = mapped_column(unique=True)
    public_key: Mapped[str] = mapped_column(String(255))
    private_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def purpose(self) -> str:
        return f"zone_key:{self.zone_id}"


class WireKey(Base):
    """A key pair callers encrypt their secrets with."""

    __tablename__ = "wire_key"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    description: Mapped[str] = mapped_column(String(255))
    cipher_type: Mapped[str] = mapped_column(String(16))
    block_size: Mapped[int]  # the most plain bytes that fit in one chunk
    public_key: Mapped[str]
    private_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def purpose(self) -> str:
        return f"wire_key:{self.name}"


class App(Base):
    """A program that calls us."""

    __tablename__ = "app"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(64), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    businesses: Mapped[list[int] | None] = mapped_column(BUSINESSES)
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class User(Base):
    """A person who signs in."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    businesses: Mapped[list[int] | None] = mapped_column(BUSINESSES)
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class AccessKey(Base):
    """A pair a user signs requests with; it has that user's rights."""

    __tablename__ = "access_key"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    access_key: Mapped[str] = mapped_column(String(64), unique=True)
    secret_key: Mapped[bytes] = mapped_column(LargeBinary)  # signing needs it in clear
    created_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def purpose(self) -> str:
        return f"access_key:{self.access_key}"


class WebSession(Base):
    """A signed-in browser."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    source_ip: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Audit(Base):
    """One thing someone did or tried."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_target", "action", "target", "at"),
        Index("ix_audit_source", "action", "source_ip", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    caller: Mapped[str] = mapped_column(String(64))  # empty: nobody we know
    caller_kind: Mapped[str] = mapped_column(String(16))
    acting_for: Mapped[str | None] = mapped_column(String(255))  # whom a program named
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(255))
    source_ip: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    details: Mapped[dict[str, Any]]
