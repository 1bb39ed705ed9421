"""What was there before a request: jobs that were submitted, played and settled."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from app.access.redact import Redactor
from app.automation.events import Event
from app.domain.commands import HostSpec, SubmitJob
from app.domain.states import Cause
from app.jobs.context import Context
from app.jobs.progress import write_events
from app.jobs.settle import settle_run
from app.jobs.submit import submit_job
from app.models.access import Credential
from app.models.base import now, reading, transaction
from app.models.fleet import Host
from tests.jobs.conftest import a_host, a_package, a_verdict, broke, claim_next, started, worked

OK = "ok"


def arrange(ctx: Context, given: Mapping[str, Any]) -> None:
    """Bring an empty installation to this state.

    `hosts`: how many an INSTALL_AGENT job was submitted for; `played`: what became of them, by
    address: "ok", "running", or [cause, reason]; hosts that are not named were never reached;
    `logins_expired`: and that is long ago.
    """
    if given.get("without_packages"):
        _forget_packages(ctx)
    if count := given.get("hosts"):
        submit(ctx, [a_host(n) for n in range(count)])
    if (played := given.get("played")) is not None:
        play(ctx, played, is_over=not given.get("still_running"))
    if given.get("logins_expired"):
        _expire_logins(ctx)


def submit(ctx: Context, hosts: list[HostSpec], job_type: str = "INSTALL_AGENT") -> int:
    command = SubmitJob(job_type=job_type, hosts=tuple(hosts), created_by="alice")
    return submit_job(ctx, command).job_id


def play(ctx: Context, played: Mapping[str, Any], is_over: bool = True) -> None:
    """Let a worker have the next run, and let these hosts do what is said."""
    claim = claim_next(ctx)
    ids = _ids(ctx)
    by_id = {ids[address]: outcome for address, outcome in played.items()}
    events: list[Event] = [started(host_id) for host_id in by_id]
    events += [worked(host) for host, said in by_id.items() if said == OK]
    failed = {h: (Cause(said[0]), said[1]) for h, said in by_id.items() if isinstance(said, list)}
    events += [broke(host_id, *why) for host_id, why in failed.items()]
    with transaction(ctx.engine) as session:
        write_events(session, claim, Redactor([]), events)
    if not is_over:
        return
    done = {host_id for host_id, said in by_id.items() if said == OK}
    assert settle_run(ctx, claim, a_verdict(done, failed, claim.parts.keys() - by_id.keys()))


def _expire_logins(ctx: Context) -> None:
    with transaction(ctx.engine) as session:
        session.execute(update(Credential).values(expires_at=now() - timedelta(days=1)))


def _ids(ctx: Context) -> dict[str, int]:
    with reading(ctx.engine) as session:
        return {host.label: host.id for host in session.scalars(select(Host))}


def _forget_packages(ctx: Context) -> None:
    with transaction(ctx.engine) as session:
        for package in session.scalars(select(type(a_package()))):
            session.delete(package)
