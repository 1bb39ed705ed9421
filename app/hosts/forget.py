"""Forget hosts without touching them."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.credentials import forget_credentials
from app.domain.errors import HostsBusy
from app.models.base import chunks
from app.models.fleet import Host, HostLock


def forget_hosts(session: Session, host_ids: Sequence[int]) -> list[int]:
    """No longer manage these hosts; those a job is changing right now are refused, all or none."""
    forgotten: list[int] = []
    for some in chunks(host_ids):
        _refuse_busy(session, some)
        for host in session.scalars(select(Host).where(Host.id.in_(some), ~Host.is_forgotten)):
            _forget(host)
            forgotten.append(host.id)
    forget_credentials(session, forgotten)
    return forgotten


def _forget(host: Host) -> None:
    host.is_forgotten = True
    host.agent_status, host.agent_version, host.agent_name = "REMOVED", None, None
    host.drop_standing_access()


def _refuse_busy(session: Session, host_ids: Sequence[int]) -> None:
    query = (
        select(Host, HostLock.job_id)
        .join(HostLock, HostLock.host_id == Host.id)
        .where(Host.id.in_(host_ids))
    )
    held = {host.label: job_id for host, job_id in session.execute(query)}
    if held:
        names = ", ".join(f"{label} (job {job_id})" for label, job_id in held.items())
        raise HostsBusy(f"Another job is changing: {names}.", hosts=held)
