"""The job types a retry runs: those of before, or those its caller puts in their place."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.catalogue import JobType, get_job_type
from app.domain.commands import RetryJob
from app.domain.errors import InvalidRequest, PreconditionFailed
from app.domain.preconditions import HostFacts, first_refusal
from app.domain.rollout import Rollout
from app.jobs.enlist import check_package
from app.jobs.submit import check_order
from app.models.base import chunks
from app.models.fleet import Host
from app.models.work import Job, Subscription, Task


def choose_stages(
    session: Session,
    job: Job,
    command: RetryJob,
    host_ids: Collection[int],
    rollout: Rollout | None,
) -> dict[str, JobType]:
    """The job type of each stage: as asked, else as the tasks before did, the newest winning.

    What is asked must be able to take that place, as if it were submitted: raises InvalidRequest,
    PackageMissing or PreconditionFailed. Logins are for the caller to check.
    """
    stages = session.get_one(Subscription, job.subscription_id).stages
    before = _before(session, job, command, stages)
    if unknown := sorted(set(command.actions) - before.keys()):
        raise InvalidRequest(
            f"actions: there is no stage {', '.join(unknown)}; there are: {', '.join(before)}.",
            field="actions",
        )
    chosen = {stage: get_job_type(name) for stage, name in {**before, **command.actions}.items()}
    if command.actions:
        check_order(list(chosen.values()), rollout, "actions")
        _check_packages(session, stages, {name: chosen[name] for name in command.actions})
        # what an earlier stage brings is not there yet: the first one alone meets the host as it is
        first = stages[0]["id"]
        if first in command.actions:
            _check_hosts(session, chosen[first], host_ids)
    return chosen


def _before(
    session: Session, job: Job, command: RetryJob, stages: Sequence[dict[str, Any]]
) -> dict[str, str]:
    actions = {stage["id"]: stage["job_type"] for stage in stages}
    query = select(Task.actions).where(Task.job_id == job.id).order_by(Task.id)
    if command.task_ids:
        query = query.where(Task.id.in_(command.task_ids))
    for earlier in session.scalars(query):
        actions |= {stage: name for stage, name in earlier.items() if stage in actions}
    return actions


def _check_packages(
    session: Session, stages: Sequence[dict[str, Any]], asked: dict[str, JobType]
) -> None:
    for stage in stages:
        if job_type := asked.get(stage["id"]):
            version, name = stage.get("package_version"), stage.get("package_name")
            check_package(session, job_type, version, name)


def _check_hosts(session: Session, job_type: JobType, host_ids: Collection[int]) -> None:
    refused = {}
    for some in chunks(host_ids):
        for host in session.scalars(select(Host).where(Host.id.in_(some)).order_by(Host.id)):
            if reason := first_refusal(job_type.preconditions, _facts(host)):
                refused[host.label] = reason
    if refused:
        said = "; ".join(f"{label}: {reason}" for label, reason in refused.items())
        raise PreconditionFailed(f"{job_type.name} cannot run on {said}.", hosts=refused)


def _facts(host: Host) -> HostFacts:
    return HostFacts(
        label=host.label,
        os_type=host.os_type,
        agent_version=host.agent_version,
        has_login=True,  # asked later, with the logins that came along
    )
