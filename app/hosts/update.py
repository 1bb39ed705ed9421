"""Edit what is known of one host, and how to log in on it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.access.caller import Caller
from app.access.credentials import (
    NewCredential,
    Place,
    StandingLogin,
    move_logins,
    store_credentials,
)
from app.access.vault import Vault
from app.domain.commands import AuthType, LoginSpec
from app.domain.errors import (
    AccessPointNotFound,
    Conflict,
    Forbidden,
    HostNotFound,
    InstallChannelNotFound,
    InvalidRequest,
)
from app.hosts.owners import ADDRESSES, refuse_foreign
from app.models.base import chunks, now
from app.models.fleet import AccessPoint, Host, InstallChannel

EDITABLE = frozenset(
    {"inner_ip", "inner_ipv6", "outer_ip", "outer_ipv6", "login_ip", "data_ip"}
    | {"access_point_id", "install_channel_id", "port", "account", "auth_type"}
)


class AddressTaken(Conflict):
    """Another host of this zone has that address."""


class NotYourHost(Forbidden):
    """This host is in a business you have no access to."""


@dataclass(frozen=True, kw_only=True)
class HostEdit:
    """What to change on a host; what is not in `changes` stays."""

    host_id: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    login: LoginSpec | None = None


def get_host(session: Session, host_id: int) -> Host:
    """That host, or HostNotFound."""
    host = session.get(Host, host_id)
    if host is None or host.is_forgotten:
        raise HostNotFound(f"There is no host {host_id}.", host_id=host_id)
    return host


def get_own_host(session: Session, caller: Caller, host_id: int) -> Host:
    """That host of one of the caller's businesses, or HostNotFound or NotYourHost."""
    host = get_host(session, host_id)
    if not caller.sees(host.business_id):
        raise NotYourHost(
            f"Host {host_id} is in business {host.business_id}, which {caller.name} has no "
            "access to.",
            host_id=host_id,
        )
    return host


def update_host(
    session: Session,
    vault: Vault,
    edit: HostEdit,
    standing: Mapping[int, StandingLogin] | None = None,
) -> Host:
    """Change a host's row, and keep a new login if one came along.

    Without one the login it has is used for another account from then on, but at no other address
    or port than it was given for.
    """
    host = get_host(session, edit.host_id)
    _check(session, host, edit.changes)
    for name, value in edit.changes.items():
        setattr(host, name, value)
    host.values = {**host.values, **edit.values}
    if not (host.inner_ip or host.inner_ipv6):
        raise InvalidRequest("A host keeps at least one inner address.", field="inner_ip")
    if edit.login:
        host.port = edit.login.port
    session.flush()
    if edit.login:
        store_credentials(session, vault, [_credential(host.id, edit.login)], now())
    elif account := edit.changes.get("account"):
        move_logins(session, vault, {host.id: Place(account=account)}, now(), standing=standing)
    return host


def note_logins(session: Session, logins: Mapping[int, LoginSpec]) -> None:
    """Let the rows of these hosts say how they are logged in to from now on."""
    for some in chunks(logins):
        for host in session.scalars(select(Host).where(Host.id.in_(some))):
            login = logins[host.id]
            host.account, host.port = login.account, login.port
            host.auth_type = login.auth_type.value


def _check(session: Session, host: Host, changes: Mapping[str, Any]) -> None:
    unknown = sorted(set(changes) - EDITABLE)
    if unknown:
        raise InvalidRequest(f"{', '.join(unknown)} cannot be edited.", field=unknown[0])
    point = changes.get("access_point_id")
    if point is not None and session.get(AccessPoint, point) is None:
        raise AccessPointNotFound(f"There is no access point {point}.", access_point_id=point)
    check_channels(session, {changes.get("install_channel_id"): host.label})
    refuse_foreign(session, host, [changes.get(name) or "" for name in ADDRESSES])
    addresses = [changes[name] for name in ("inner_ip", "inner_ipv6") if changes.get(name)]
    taken = select(Host).where(
        Host.zone_id == host.zone_id,
        Host.id != host.id,
        or_(Host.inner_ip.in_(addresses), Host.inner_ipv6.in_(addresses)),
    )
    for other in session.scalars(taken).all() if addresses else ():
        if not other.is_forgotten:
            raise AddressTaken(f"{other.label} in this zone is host {other.id} already.")
        _give_up(other, addresses)
    session.flush()


def _give_up(host: Host, addresses: Collection[str]) -> None:
    """A removed host kept its addresses only to be known again by them."""
    for name in ("inner_ip", "inner_ipv6"):
        if getattr(host, name) in addresses:
            setattr(host, name, None)


def check_channels(session: Session, channels: Mapping[int | None, str]) -> None:
    """Refuse, as InstallChannelNotFound, one that is not there: its id → a host that wants it."""
    wanted = {channel_id for channel_id in channels if channel_id is not None}
    if wanted and (unknown := wanted - set(session.scalars(select(InstallChannel.id)))):
        named = ", ".join(f"{channel} for {channels[channel]}" for channel in sorted(unknown))
        raise InstallChannelNotFound(f"There is no install channel {named}.")


def _credential(host_id: int, login: LoginSpec) -> NewCredential:
    by_password = login.auth_type is AuthType.PASSWORD
    return NewCredential(
        host_id=host_id,
        kind="password" if by_password else "key",
        account=login.account,
        port=login.port,
        secret=(login.password if by_password else login.key) or "",
        retention=login.retention,
    )
