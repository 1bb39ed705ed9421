"""Decide which hosts of a submission may take part, and say of every other why not."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.credentials import usable_logins
from app.domain.catalogue import JobType
from app.domain.commands import HostSpec
from app.domain.errors import (
    AllFiltered,
    AllWithoutLogin,
    HostsBusy,
    NoProxy,
)
from app.domain.preconditions import HostFacts, first_refusal, has_login
from app.domain.sentences import say
from app.jobs.context import Context
from app.jobs.entries import Entries, Pair
from app.jobs.logins import standing_logins
from app.models.base import chunks, now
from app.models.fleet import Host, HostLock
from app.models.work import Part, Task, is_unfinished


def check_proxies(job_type: JobType, entries: Entries) -> None:
    """A host in another zone is reached through that zone's proxies (contracts/nodeman.md §2.1)."""
    behind = [p for p in entries.pairs if (p.host.zone_id if p.host else p.spec.zone_id) != 0]
    if not behind or not job_type.needs_proxy:
        return
    entries.filtered.clear()
    for pair in behind:
        entries.refuse(
            pair, "there is no proxy in its zone; install one first", exception="no_proxy"
        )
    raise NoProxy(filtered=tuple(entries.filtered))


def check_preconditions(
    ctx: Context, session: Session, job_type: JobType, entries: Entries
) -> dict[str, str]:
    """Filter by the job type's preconditions; what remains for want of a login is returned."""
    usable = _with_stored_login(ctx, session, job_type, entries.pairs)
    kept, without_login = [], {}
    for pair in entries.pairs:
        facts = _facts(pair, usable)
        reason = first_refusal(job_type.preconditions, facts)
        if reason is None:
            kept.append(pair)
            continue
        entries.refuse(pair, reason)
        if has_login in job_type.preconditions and reason == has_login(facts):
            without_login[facts.label] = reason
    entries.keep(kept)
    return without_login


def drop_doubles(entries: Entries) -> None:
    """Keep the first row for each host, of those that may take part."""
    seen: set[object] = set()
    kept = []
    for pair in entries.pairs:
        names = _names(pair)
        if seen & names:
            label = pair.spec.label
            entries.refuse(pair, f"duplicate: {label} is named more than once in this call")
            continue
        seen |= names
        kept.append(pair)
    entries.keep(kept)


def _names(pair: Pair) -> set[object]:
    if pair.host:
        return {pair.host.id}
    spec = pair.spec
    return {(spec.zone_id, address) for address in (spec.inner_ip, spec.inner_ipv6) if address}


def _with_stored_login(
    ctx: Context, session: Session, job_type: JobType, pairs: Sequence[Pair]
) -> set[int]:
    hosts = [p.host for p in pairs if p.host and not p.brings_login]
    if not hosts or has_login not in job_type.preconditions:
        return set()
    return set(
        usable_logins(
            session,
            ctx.vault,
            [host.id for host in hosts],
            now(),
            standing=standing_logins(ctx, hosts),
        )
    )


def _facts(pair: Pair, usable: set[int]) -> HostFacts:
    spec, host = pair.spec, pair.host
    sent = pair.brings_login
    changed = host is not None and spec.auth_type and spec.auth_type.value != host.auth_type
    moves = host is not None and _enters_elsewhere(spec, host)
    stored = host is not None and host.id in usable and not changed and not moves
    return HostFacts(
        label=spec.label if host is None else host.label,
        os_type=spec.os_type or (host.os_type if host else "LINUX"),
        agent_version=host.agent_version if host else None,
        has_login=sent or stored,
        login_problem=_login_problem(spec, host, bool(changed), moves),
    )


def _enters_elsewhere(spec: HostSpec, host: Host) -> bool:
    """Whether this row names another address or port than the stored login was given for."""
    port = spec.port is not None and spec.port != host.port
    return port or bool(spec.login_ip and spec.login_ip != host.login_address)


def _login_problem(spec: HostSpec, host: Host | None, changed: bool, moves: bool) -> str:
    if changed and host:
        return say(
            "its auth_type changes from {auth_type}; send the new secret along",
            auth_type=host.auth_type,
        )
    if moves and host:
        return say(
            "it is to be entered elsewhere than at {address} port {port}, and a login is used only"
            " where it was given for; send it along",
            address=host.login_address,
            port=host.port,
        )
    if host is None:
        return "it has no login yet; send account, port and password or key"
    return "its stored login has expired and no standing access is set up; send the login again"


def refuse_all(entries: Entries, without_login: Mapping[str, str]) -> None:
    """Nobody is left: AllFiltered, or AllWithoutLogin where that is the only reason."""
    if without_login and len(without_login) == len(entries.filtered):
        raise AllWithoutLogin(
            "No usable login for: " + ", ".join(without_login) + ".",
            hosts=dict(without_login),
            filtered=tuple(entries.filtered),
        )
    raise AllFiltered(filtered=tuple(entries.filtered))


def check_free(session: Session, pairs: Sequence[Pair]) -> None:
    """Refuse when another job holds one of these hosts, or is to have it."""
    hosts = {pair.host.id: pair.host for pair in pairs if pair.host}
    busy: dict[str, int] = {}
    for some in chunks(hosts):
        waiting = (
            select(Part.host_id, Part.job_id)
            .join(Task, Task.id == Part.task_id)
            .where(Part.host_id.in_(some), is_unfinished())
            .order_by(Part.job_id.desc())
        )
        held = select(HostLock.host_id, HostLock.job_id).where(HostLock.host_id.in_(some))
        for query in (waiting, held):
            busy |= {hosts[host_id].label: job_id for host_id, job_id in session.execute(query)}
    if busy:
        names = ", ".join(f"{label} (job {job_id})" for label, job_id in busy.items())
        raise HostsBusy(f"Another job is changing: {names}.", hosts=busy)
