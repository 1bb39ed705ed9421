"""The logins of hosts: kept sealed for as long as was agreed, then wiped."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from app.access.standing import standing_private_keys
from app.access.vault import Vault
from app.domain.errors import InvalidRequest
from app.models.access import Credential, credential_purpose
from app.models.base import chunks
from app.models.fleet import LOGIN_ADDRESS, Host
from app.models.rows import insert_rows

Kind = Literal["password", "key"]
HostsNeeded = Collection[int] | Callable[[set[int]], Collection[int]]

DEFAULT_DAYS = 1
MAX_DAYS = 36_500
CHUNK = 500  # databases limit how many values one statement takes


@dataclass(frozen=True, kw_only=True)
class NewCredential:
    """A login as a caller sent it, already decrypted."""

    host_id: int
    kind: Kind
    account: str
    port: int
    secret: str = field(repr=False)
    retention: int | None = None  # days; None: one, 0: until the job ends
    job_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class StandingLogin:
    """Where Hostler's own key is authorised on a host."""

    zone_id: int
    account: str


@dataclass(frozen=True, kw_only=True)
class StandingGrant:
    """That a run proved our key on a host: for which account, and on which way."""

    account: str
    way: str


@dataclass(frozen=True, kw_only=True)
class Asker:
    """A job that needs logins: what another job brought after `since` is not meant for it."""

    job_id: int
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Place:
    """Whom else a login is to be used for; never another address or port than it was given for."""

    account: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoginChoice:
    """How to get onto a host now; no port means the host's own."""

    account: str
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    port: int | None = None
    is_standing: bool = False
    credential_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class LoginFacts:
    """What may be said of a host's newest login: everything but the secret."""

    kind: Kind
    account: str
    port: int
    retention: int | None
    is_usable: bool


def expiry(retention: int | None, now: datetime, job_id: int | None = None) -> datetime | None:
    """When a login ends; None while only the end of a job decides."""
    days = DEFAULT_DAYS if retention is None else retention
    if not 0 <= days <= MAX_DAYS:
        raise InvalidRequest(f"retention is a number of days from 0 to {MAX_DAYS}.", retention=days)
    if days == 0 and job_id is not None:
        return None
    return now + timedelta(days=days or DEFAULT_DAYS)  # without a job nothing else would end it


def store_credentials(
    session: Session, vault: Vault, rows: Iterable[NewCredential], now: datetime
) -> int:
    """Seal and keep these logins, each good at the address its host has now.

    Older ones of the same hosts stay as they are.
    """
    new = list(rows)
    addresses = _login_addresses(session, {each.host_id for each in new})
    values = [_row(vault, each, now, addresses.get(each.host_id, "")) for each in new]
    insert_rows(session, Credential, values)
    return len(values)


def usable_logins(
    session: Session,
    vault: Vault,
    host_ids: Iterable[int],
    now: datetime,
    *,
    standing: Mapping[int, StandingLogin] | None = None,
    needed: Collection[int] = (),
    asker: Asker | None = None,
) -> dict[int, LoginChoice]:
    """How to get onto each host; a host with no way in is absent.

    The newest login wins while it lasts, then Hostler's own key, then an older login: it may have
    been followed by another because it was wrong. One that the host refused comes last. Hosts in
    `needed` belong to a job that began before their login expired: for them it holds until that
    job ends. For an `asker` what is not meant for it comes after everything else. A login is good
    only at the address and port it was given for; a host that is entered elsewhere has it no more.
    """
    logins: dict[int, LoginChoice] = {}
    wanted = set(host_ids)
    for meant in (_meant_for(asker), true()) if asker else (true(),):
        left = wanted - logins.keys()
        logins |= _logins_among(meant, session, vault, left, now, standing or {}, needed)
    return logins


def _logins_among(
    meant: ColumnElement[bool],
    session: Session,
    vault: Vault,
    wanted: set[int],
    now: datetime,
    standing: Mapping[int, StandingLogin],
    needed: Collection[int],
) -> dict[int, LoginChoice]:
    newest = _newest(session, wanted, meant)
    logins = _choices(vault, {h: row for h, row in newest.items() if _is_promising(row, now)})
    without = wanted - logins.keys()
    logins |= _standing_choices(session, vault, without, standing)
    lasting = and_(meant, _unexpired(now))
    for which in (and_(lasting, Credential.refused_at.is_(None)), lasting):
        logins |= _choices(vault, _newest(session, without - logins.keys(), which))
    late = [host_id for host_id in needed if host_id in without and host_id not in logins]
    kept = and_(meant, Credential.wiped_at.is_(None))
    return logins | _choices(vault, _newest(session, late, kept))


def _meant_for(asker: Asker) -> ColumnElement[bool]:
    return or_(
        Credential.job_id.is_(None),
        Credential.job_id == asker.job_id,
        Credential.created_at <= asker.since,
    )


def mark_refused(session: Session, ids: Iterable[int], now: datetime) -> None:
    """Remember that their hosts did not accept these logins."""
    for some in chunks(ids, CHUNK):
        session.execute(update(Credential).where(Credential.id.in_(some)).values(refused_at=now))


def move_logins(
    session: Session,
    vault: Vault,
    places: Mapping[int, Place],
    now: datetime,
    *,
    standing: Mapping[int, StandingLogin] | None = None,
) -> int:
    """Keep the login that would be used on each host for another account, until the same end.

    A host that has none, or is entered with Hostler's own key, has nothing to move.
    """
    logins = usable_logins(session, vault, places, now, standing=standing)
    moved = {
        login.credential_id: login
        for host_id, login in logins.items()
        if login.credential_id and not _is_there(login, places[host_id])
    }
    rows = [
        row
        for some in chunks(moved, CHUNK)
        for row in session.scalars(select(Credential).where(Credential.id.in_(some)))
    ]
    values = [_moved(vault, row, moved[row.id], places[row.host_id], now) for row in rows]
    insert_rows(session, Credential, values)
    return len(values)


def login_facts(session: Session, host_ids: Iterable[int], now: datetime) -> dict[int, LoginFacts]:
    """The newest login of each host that ever had one, without its secret."""
    newest = _newest(session, host_ids, true())
    return {host_id: _facts(row, now) for host_id, row in newest.items()}


def wipe_expired(session: Session, now: datetime, needed: HostsNeeded = ()) -> int:
    """Wipe every login whose time is over, except on hosts an unfinished job still needs."""
    return _wipe(session, find_expired(session, now, needed), now)


def find_expired(session: Session, now: datetime, needed: HostsNeeded = ()) -> list[int]:
    """The logins that are to be wiped.

    `needed` are the hosts whose logins hold, or a function that picks them out of some.
    """
    over = or_(Credential.expires_at.is_(None), Credential.expires_at <= now)
    rows = session.execute(
        select(Credential.id, Credential.host_id).where(Credential.wiped_at.is_(None), over)
    ).all()
    hosts = {row.host_id for row in rows}
    kept = set(needed(hosts) if callable(needed) else needed)
    return [row.id for row in rows if row.host_id not in kept]


def wipe_after_job(session: Session, host_ids: Iterable[int], now: datetime) -> int:
    """A job on these hosts ended and no other needs them: wipe what was kept for it alone."""
    return sum(
        _wipe(session, list(session.scalars(_for_job_only(hosts))), now)
        for hosts in chunks(host_ids, CHUNK)
    )


def forget_credentials(session: Session, host_ids: Iterable[int]) -> None:
    """Delete every login of hosts that are removed."""
    for hosts in chunks(host_ids, CHUNK):
        session.execute(delete(Credential).where(Credential.host_id.in_(hosts)))


def _login_addresses(session: Session, host_ids: Iterable[int]) -> dict[int, str]:
    return {
        row[0]: row[1]
        for some in chunks(host_ids)
        for row in session.execute(select(Host.id, LOGIN_ADDRESS).where(Host.id.in_(some)))
    }


def _row(vault: Vault, new: NewCredential, now: datetime, address: str) -> dict[str, object]:
    purpose = credential_purpose(new.host_id, new.kind, new.account, new.port)
    return {
        "host_id": new.host_id,
        "job_id": new.job_id,
        "kind": new.kind,
        "account": new.account,
        "address": address,
        "port": new.port,
        "secret": vault.seal(_bytes(new), purpose),
        "retention": new.retention,
        "created_at": now,
        "expires_at": expiry(new.retention, now, new.job_id),
    }


def _is_there(login: LoginChoice, place: Place) -> bool:
    return place.account in (None, login.account)


def _moved(
    vault: Vault, row: Credential, login: LoginChoice, place: Place, now: datetime
) -> dict[str, object]:
    new = NewCredential(
        host_id=row.host_id,
        kind="key" if login.private_key else "password",
        account=place.account or row.account,
        port=row.port,
        secret=login.private_key or login.password or "",
        retention=row.retention,
        job_id=row.job_id,
    )
    return _row(vault, new, now, row.address) | {"expires_at": row.expires_at}


def _bytes(new: NewCredential) -> bytes:
    try:
        return new.secret.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"The {new.kind} of {new.account} is not valid text.") from None


def _unexpired(now: datetime) -> ColumnElement[bool]:
    kept = or_(Credential.expires_at.is_(None), Credential.expires_at > now)
    return and_(Credential.wiped_at.is_(None), kept)


def _newest(
    session: Session, host_ids: Iterable[int], which: ColumnElement[bool]
) -> dict[int, Credential]:
    found: dict[int, Credential] = {}
    for hosts in chunks(host_ids, CHUNK):
        newest = (
            select(func.max(Credential.id))
            .outerjoin(Host, Host.id == Credential.host_id)
            .where(Credential.host_id.in_(hosts), which)
            # a host without a row is nowhere, and nobody enters it
            .where(or_(Host.id.is_(None), _is_given_for_it()))
            .group_by(Credential.host_id)
        )
        rows = session.scalars(select(Credential).where(Credential.id.in_(newest)))
        found |= {row.host_id: row for row in rows}
    return found


def _is_given_for_it() -> ColumnElement[bool]:
    """Whether the login was given for where its host is entered now."""
    return and_(Credential.address == LOGIN_ADDRESS, Credential.port == Host.port)


def _choices(vault: Vault, rows: Mapping[int, Credential]) -> dict[int, LoginChoice]:
    return {host_id: _choice(vault, row) for host_id, row in rows.items()}


def _choice(vault: Vault, row: Credential) -> LoginChoice:
    assert row.secret is not None  # only unwiped rows are asked for
    secret = vault.open(row.secret, row.purpose).decode()
    return LoginChoice(
        account=row.account,
        password=secret if row.kind == "password" else None,
        private_key=secret if row.kind == "key" else None,
        port=row.port,
        credential_id=row.id,
    )


def _standing_choices(
    session: Session, vault: Vault, host_ids: set[int], standing: Mapping[int, StandingLogin]
) -> dict[int, LoginChoice]:
    logins = {host_id: standing[host_id] for host_id in host_ids if host_id in standing}
    if not logins:
        return {}
    zones = {login.zone_id for login in logins.values()}
    keys = standing_private_keys(session, vault, zones)
    return {
        host_id: LoginChoice(
            account=login.account, private_key=keys[login.zone_id], is_standing=True
        )
        for host_id, login in logins.items()
        if login.zone_id in keys
    }


def _facts(row: Credential, now: datetime) -> LoginFacts:
    return LoginFacts(
        kind="password" if row.kind == "password" else "key",
        account=row.account,
        port=row.port,
        retention=row.retention,
        is_usable=_is_usable(row, now),
    )


def _is_usable(row: Credential, now: datetime) -> bool:
    return row.wiped_at is None and (row.expires_at is None or row.expires_at > now)


def _is_promising(row: Credential, now: datetime) -> bool:
    return _is_usable(row, now) and row.refused_at is None


def _for_job_only(host_ids: Collection[int]) -> Select[int]:
    return select(Credential.id).where(
        Credential.host_id.in_(host_ids),
        Credential.retention == 0,
        Credential.wiped_at.is_(None),
    )


def _wipe(session: Session, ids: Iterable[int], now: datetime) -> int:
    count = 0
    for some in chunks(ids, CHUNK):
        count += len(some)
        session.execute(
            update(Credential).where(Credential.id.in_(some)).values(secret=None, wiped_at=now)
        )
    return count
