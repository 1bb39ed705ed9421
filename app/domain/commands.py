"""What a caller asks for, as values: dialects build them, use cases take them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.domain.rollout import Rollout


class AuthType(StrEnum):
    """How a login proves itself."""

    PASSWORD = "PASSWORD"  # noqa: S105 - a word of the wire
    KEY = "KEY"


class OnBusy(StrEnum):
    """What to do when another job is changing a host."""

    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True)
class LoginSpec:
    """A login as a caller sent it, already decrypted; `retention` in days, None = 1."""

    account: str
    port: int
    auth_type: AuthType
    password: str | None = None
    key: str | None = None
    retention: int | None = None

    @property
    def has_secret(self) -> bool:
        return bool(self.password if self.auth_type is AuthType.PASSWORD else self.key)


@dataclass(frozen=True, kw_only=True)
class HostSpec:
    """One host of a submission: a known host by id, or a whole row."""

    host_id: int | None = None
    business_id: int | None = None
    zone_id: int = 0
    inner_ip: str | None = None
    inner_ipv6: str | None = None
    outer_ip: str | None = None
    outer_ipv6: str | None = None
    login_ip: str | None = None
    data_ip: str | None = None
    os_type: str | None = None
    access_point_id: int | None = None
    install_channel_id: int | None = None
    addressing: str | None = None
    is_manual: bool | None = None
    port: int | None = None
    account: str | None = None
    auth_type: AuthType | None = None
    login: LoginSpec | None = None
    values: Mapping[str, Any] = field(default_factory=dict)  # the job type's variables

    @property
    def label(self) -> str:
        return self.inner_ip or self.inner_ipv6 or (f"host {self.host_id}")


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """A caller's promise that two requests with one key are one request."""

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class NextStage:
    """Work that follows on every host the stage before it succeeded on."""

    job_type: str
    package_version: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)  # over the host's own


@dataclass(frozen=True, kw_only=True)
class SubmitJob:
    """Do this kind of work on these hosts."""

    job_type: str
    hosts: tuple[HostSpec, ...]
    created_by: str
    package_version: str | None = None  # None: the newest ready one
    package_name: str | None = None
    install_latest_plugins: bool = True
    on_busy: OnBusy = OnBusy.WAIT
    then: tuple[NextStage, ...] = ()
    rollout: Rollout | None = None  # None: every host at once
    language: str = "en"


@dataclass(frozen=True, kw_only=True)
class FilteredHost:
    """A host that will not take part, and why."""

    reason: str
    business_id: int | None = None
    zone_id: int | None = None
    host_id: int | None = None
    inner_ip: str = ""
    inner_ipv6: str = ""
    business_name: str = ""
    zone_name: str = ""
    exception: str = ""
    cause: str = "filtered"

    @property
    def address(self) -> str:
        return self.inner_ip or self.inner_ipv6

    @property
    def is_only_an_id(self) -> bool:
        """Whether nothing is known of it, and nobody said more than a number."""
        return not self.address and self.business_id is None


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of a submission."""

    job_id: int
    task_id: int
    filtered: tuple[FilteredHost, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetryJob:
    """Try again what is not proven OK; an empty selection means every failed target."""

    job_id: int | None = None
    subscription_id: int | None = None
    instance_ids: tuple[str, ...] = ()
    task_ids: tuple[int, ...] = ()
    actions: Mapping[str, str] = field(default_factory=dict)
    logins: Mapping[int, LoginSpec] = field(default_factory=dict)  # host id → new login
    created_by: str = ""


@dataclass(frozen=True, kw_only=True)
class RevokeJob:
    """Stop what waits or runs; an empty selection means all of it."""

    job_id: int | None = None
    subscription_id: int | None = None
    instance_ids: tuple[str, ...] = ()
    created_by: str = ""
