"""Prepare a claimed run: the machines, their logins and values, as plain values for Ansible."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any

import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.credentials import Asker, LoginChoice, StandingGrant, usable_logins
from app.access.standing import standing_public_key
from app.automation.inventory import Login, Machine
from app.automation.runner import Play
from app.domain.accounts import account_problem
from app.domain.catalogue import Effect
from app.domain.states import Direction, Operation
from app.jobs import undo
from app.jobs.claim import Claim
from app.jobs.context import Context
from app.jobs.logins import standing_logins
from app.models.base import now, transaction
from app.models.duties import installation_id
from app.models.fleet import AccessPoint, Host
from app.models.package import Package
from app.models.work import Part, Run, Target, Task
from app.packages.choose import choose_packages, describe_candidate
from app.packages.sign import sign_url, signing_key

URL_LIFE = timedelta(hours=6)  # how long a host may take to come for its package
MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run needs from the database; nothing of it is a row."""

    play: Play | None  # None: no host of the run can be reached
    secrets: tuple[str, ...]
    standing: Mapping[int, StandingGrant]  # by host id: where our key will be
    without_login: Mapping[int, str]  # host id → why it cannot take part
    credentials: Mapping[int, int]  # host id → the stored login it is entered with


@dataclass(frozen=True)
class _Entry:
    """One host of the run, with what belongs to it."""

    part: Part
    target: Target
    host: Host


def prepare_run(ctx: Context, claim: Claim) -> Prepared:
    """Everything this attempt needs, read in one transaction."""
    with transaction(ctx.engine) as session:
        entries = _entries(session, claim)
        known = _logins(ctx, session, claim, entries)
        refused = {h: why for h, login in known.items() if (why := _refusal(login))}
        logins = {h: login for h, login in known.items() if h not in refused}
        values = _Values(ctx, session, claim)
        machines, standing = [], {}
        for entry in entries:
            login = logins.get(entry.host.id) if entry.host.id in claim.parts else None
            if login and values.standing_key(entry.host) and not login.is_standing:
                standing[entry.host.id] = StandingGrant(account=login.account, way=entry.host.way)
            machines.append(_machine(ctx, entry, login, values))
        limit = frozenset(m.host_id for m in machines if m.login)
        return Prepared(
            play=_play(ctx, claim, machines, limit, values) if limit else None,
            secrets=tuple(_secrets(logins.values())),
            standing=standing if _grants(claim) else {},
            without_login={h: refused.get(h, NO_LOGIN) for h in claim.parts if h not in limit},
            credentials={h: x.credential_id for h, x in logins.items() if x.credential_id},
        )


def _grants(claim: Claim) -> bool:
    return claim.job_type.grants_standing_access and claim.direction is Direction.FORWARD


NO_LOGIN = "its login has expired and no standing access is set up; retry with a new login"


def _entries(session: Session, claim: Claim) -> list[_Entry]:
    """Every host of the slice, the same in every attempt."""
    query = (
        select(Part, Target, Host)
        .join(Target, Target.id == Part.target_id)
        .join(Host, Host.id == Part.host_id)
        .where(Part.subtask_id == claim.subtask_id)
        .order_by(Part.id)
    )
    return [_Entry(*row) for row in session.execute(query)]


def _logins(
    ctx: Context, session: Session, claim: Claim, entries: Sequence[_Entry]
) -> dict[int, LoginChoice]:
    hosts = [entry.host for entry in entries if entry.host.id in claim.parts]
    ids = [host.id for host in hosts]
    # this job began while their logins were good: they hold until it ends
    return usable_logins(
        session,
        ctx.vault,
        ids,
        now(),
        standing=standing_logins(ctx, hosts),
        needed=ids,
        asker=_asker(session, claim),
    )


def _asker(session: Session, claim: Claim) -> Asker | None:
    """Who waited must not be let in, or kept out, by what another job brought meanwhile."""
    if session.get_one(Run, claim.run_id).operation is not Operation.EXECUTE:
        return None  # tried again because of what happened: the newest login is as good as any
    return Asker(job_id=claim.job_id, since=session.get_one(Task, claim.task_id).created_at)


def _refusal(login: LoginChoice) -> str | None:
    """Why nobody can log in with it: told of one host, instead of ending the run of all."""
    problem = account_problem(login.account)
    return problem and f"{problem}; retry with another account"


def _secrets(logins: Iterable[LoginChoice]) -> Iterable[str]:
    for login in logins:
        yield from filter(None, (login.password, login.private_key))


def _machine(ctx: Context, entry: _Entry, login: LoginChoice | None, values: "_Values") -> Machine:
    host = entry.host
    return Machine(
        host_id=host.id,
        address=host.login_address,
        port=(login.port if login else None) or host.port,
        login=_login(ctx, login),
        python=ctx.settings.remote_python,
        values=values.of_host(entry, login) if login else {},
    )


def _login(ctx: Context, choice: LoginChoice | None) -> Login | None:
    if choice is None:
        return None
    return Login(
        account=choice.account,
        password=choice.password,
        private_key=choice.private_key,
        become=None if ctx.settings.become else False,
    )


def _play(
    ctx: Context,
    claim: Claim,
    machines: Sequence[Machine],
    limit: frozenset[int],
    values: "_Values",
) -> Play:
    return Play(
        run_id=claim.run_id,
        attempt=claim.attempt,
        playbook=claim.job_type.playbook if values.is_forward else undo.PLAYBOOK,
        machines=tuple(machines),
        limit=limit,
        shared=values.shared(),
        forks=forks_for(ctx, len(limit)),
        timeout=claim.job_type.timeout,
        host_timeout=claim.job_type.host_deadline,
    )


def forks_for(ctx: Context, hosts: int) -> int:
    """As many forks as hosts, as far as free memory allows: hosts mostly wait."""
    fitting = int(psutil.virtual_memory().available / MIB / ctx.settings.fork_memory_mib)
    return max(1, min(hosts, ctx.settings.forks, fitting))


class _Values:
    """The package role's variables: what all hosts share, and what is each one's own."""

    def __init__(self, ctx: Context, session: Session, claim: Claim) -> None:
        self.ctx, self.session, self.claim = ctx, session, claim
        self.is_forward = claim.direction is Direction.FORWARD
        self.points = {point.id: point for point in session.scalars(select(AccessPoint))}
        self.keys: dict[int, str] = {}
        self.key = signing_key(ctx.settings.key_file)
        task = session.get_one(Task, claim.task_id)
        self.stage = undo.stage_of(session, task, claim.job_type)
        self._candidates = cache(self._choose)
        self._former = cache(partial(undo.find_former, session, claim.job_type))
        self._offered = cache(self._offer)  # one signature for all hosts that fetch alike

    def shared(self) -> dict[str, Any]:
        return {
            "hostler_token": token_of(self.session, self.claim),
            "hostler_service_manager": self.ctx.settings.service_manager,
        }

    def of_host(self, entry: _Entry, login: LoginChoice) -> dict[str, Any]:
        point = self.points[entry.host.access_point_id]
        values: dict[str, Any] = {
            "hostler_setup_path": point.setup_path or self.ctx.settings.setup_path,
            "hostler_account": self._key_account(entry.host, login),
        }
        if self.is_forward:
            return values | self._there(entry, point)
        return values | self._back(entry, point)

    def _there(self, entry: _Entry, point: AccessPoint) -> dict[str, Any]:
        values: dict[str, Any] = {"hostler_config": self._config(entry, self._own(entry))}
        if self.claim.job_type.needs_package:
            packages = self._candidates(self._wanted_version(entry.host))
            values["hostler_packages"] = self._offers(entry.host, point, packages)
        if key := self.standing_key(entry.host):
            values["hostler_standing_key"] = key
        return values

    def _back(self, entry: _Entry, point: AccessPoint) -> dict[str, Any]:
        back = undo.undo_of(entry.part, entry.target)
        # a reload needs the package it finds, an install the one that was there
        version = back.version or entry.host.agent_version
        former = self._former(self.stage.get("package_name"), version, back.sha256)
        values: dict[str, Any] = {
            "hostler_action": back.action,
            "hostler_config": self._config(entry, back.values),
            "hostler_packages": self._offers(entry.host, point, former),
        }
        if back.effect is Effect.REMOVED and not back.keeps_standing_access:
            values["hostler_standing_key"] = self._zone_key(entry.host.zone_id)
        return values

    def _key_account(self, host: Host, login: LoginChoice) -> str:
        """Whose authorized keys are meant; what takes our key away looks where it was put."""
        takes_away = not self.is_forward or self.claim.job_type.effect is Effect.REMOVED
        return (host.standing_account if takes_away else None) or login.account

    def standing_key(self, host: Host) -> str | None:
        """The key to authorise, or on uninstall to take away."""
        job_type = self.claim.job_type
        takes_away = job_type.effect is Effect.REMOVED
        if not takes_away and not (
            job_type.grants_standing_access and self.ctx.settings.standing_access
        ):
            return None
        return self._zone_key(host.zone_id)

    def _zone_key(self, zone_id: int) -> str:
        if zone_id not in self.keys:
            self.keys[zone_id] = standing_public_key(self.session, self.ctx.vault, zone_id)
        return self.keys[zone_id]

    def _own(self, entry: _Entry) -> dict[str, Any]:
        """What this host is configured with: its settings, the job's, and the stage's."""
        known = {k: v for k, v in entry.host.values.items() if k in self.claim.job_type.variables}
        return {**known, **entry.target.values, **(self.stage.get("values") or {})}

    def _config(self, entry: _Entry, own: Mapping[str, Any]) -> dict[str, Any]:
        host = entry.host
        return {
            "address": host.inner_ip or host.inner_ipv6 or "",
            "zone_id": host.zone_id,
            "host_id": host.id,
            **own,
        }

    def _wanted_version(self, host: Host) -> str | None:
        """What is installed already, where nothing new is asked for."""
        if self.claim.job_type.effect is Effect.RUNNING:
            return host.agent_version
        return self.stage.get("package_version")

    def _offers(
        self, host: Host, point: AccessPoint, packages: Sequence[Package]
    ) -> list[dict[str, Any]]:
        return self._offered(package_base(self.ctx, point, host), tuple(packages))

    def _offer(self, base: str, packages: tuple[Package, ...]) -> list[dict[str, Any]]:
        return [
            describe_candidate(package, sign_url(base, package.sha256, self.key, URL_LIFE))
            for package in packages
        ]

    def _choose(self, version: str | None) -> list[Package]:
        kind = self.claim.job_type.node.value.lower()
        name = self.stage.get("package_name")
        return choose_packages(self.session, kind, "LINUX", version, name)


def token_of(session: Session, claim: Claim) -> dict[str, Any]:
    """What a host remembers of the run that holds it; a smaller fence is refused."""
    return {
        "origin": installation_id(session),
        "fence": claim.fence,
        "run": claim.run_id,
        "task": claim.task_id,
        "attempt": claim.attempt,
    }


def package_base(ctx: Context, point: AccessPoint, host: Host) -> str:
    """Where this host fetches packages; `auto` is our own address as the host sees us."""
    if point.package_url != "auto":
        return point.package_url.rstrip("/")
    address = source_address(host.login_address, host.port)
    shown = f"[{address}]" if ":" in address else address
    return f"http://{shown}:{ctx.settings.package_port}"


def source_address(destination: str, port: int) -> str:
    """The address we have towards that one; nothing is sent."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, port))
        except OSError:
            return "127.0.0.1"  # no route: the host will be unreachable anyway
        return str(probe.getsockname()[0])
