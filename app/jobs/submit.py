"""Submit a job: check it, write it whole, then hand its runs to the queue."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy.orm import Session

from app.access.credentials import NewCredential, store_credentials
from app.domain.catalogue import Executor, JobType, get_job_type
from app.domain.commands import AuthType, LoginSpec, SubmitJob, Submitted
from app.domain.errors import InvalidRequest
from app.domain.rollout import Rollout, dump_rollout
from app.domain.states import Direction, Operation
from app.jobs.context import Context
from app.jobs.dispatch import open_runs
from app.jobs.enlist import Enlisted, Hosted, enlist_hosts
from app.jobs.fold import refresh_tasks
from app.jobs.plan import PlannedTarget, plan_task
from app.jobs.record import record_parts
from app.jobs.report import await_reports
from app.models.base import again_on_deadlock, now, transaction
from app.models.counter import insert_in_order, take_turn
from app.models.work import Job, Subscription, Target, Task
from app.packages.choose import meant_name


@again_on_deadlock
def submit_job(ctx: Context, command: SubmitJob) -> Submitted:
    """Start this work; durable before it returns.

    Raises AllFiltered, NoProxy, LoginMissing, PackageMissing, HostsBusy, ZoneNotFound,
    AccessPointNotFound or InstallChannelNotFound, and then nothing has been written
    (contracts/nodeman.md §2.1).
    """
    job_type, stages = _stages(command)
    if not command.hosts:
        raise InvalidRequest("hosts is empty; name at least one host.", field="hosts")
    with transaction(ctx.engine) as session:
        # two that register the same host: the second finds what the first wrote
        take_turn(session)
        name = meant_name(session, command.package_name)
        command = replace(command, package_name=name)
        enlisted = enlist_hosts(ctx, session, job_type, command)
        job, subscription = _write_job(session, stages, command, enlisted)
        task = write_task(
            session,
            job,
            command.created_by,
            {stage["id"]: stage["job_type"] for stage in subscription.stages},
            job_type.title.in_language(command.language),
        )
        targets = write_targets(session, task, enlisted.hosts, command.rollout)
        store_logins(ctx, session, job.id, [(h.host_id, h.spec.login) for h in enlisted.hosts])
        plan_task(session, task, stages, targets, ctx.settings.slice_size, command.language)
        runs = start_task(ctx, session, task, stages)
    ctx.queue.send(runs)
    return Submitted(job_id=job.id, task_id=task.id, filtered=enlisted.filtered)


def _stages(command: SubmitJob) -> tuple[JobType, list[JobType]]:
    """The job type asked for, and it with those that follow on the same hosts."""
    stages = [
        get_job_type(name) for name in (command.job_type, *(n.job_type for n in command.then))
    ]
    check_order(stages, command.rollout, "then")
    for stage, following in zip(stages[1:], command.then, strict=True):
        if unknown := sorted(set(following.values) - stage.variables):
            raise InvalidRequest(f"{stage.name} takes no {', '.join(unknown)}.", field="then")
    return stages[0], stages


def check_order(stages: Sequence[JobType], rollout: Rollout | None, field: str) -> None:
    """Refuse, as InvalidRequest, stages that cannot follow each other on a host."""
    first, *following = stages
    if len(set(stages)) < len(stages):
        raise InvalidRequest("A job type can be only one stage of a job.", field=field)
    for stage in following:
        if not stage.changes_host:
            raise InvalidRequest(f"{stage.name} cannot follow another stage.", field=field)
    if (following or rollout) and not first.changes_host:
        raise InvalidRequest(f"{first.name} has no stages or rollout.", field=field)


def _write_job(
    session: Session, stages: Sequence[JobType], command: SubmitJob, enlisted: Enlisted
) -> tuple[Job, Subscription]:
    versions = (command.package_version, *(stage.package_version for stage in command.then))
    values: tuple[Mapping[str, Any], ...] = ({}, *(stage.values for stage in command.then))
    subscription = Subscription(
        stages=[
            {
                "id": stage.name.lower(),
                "type": stage.node.value,
                "job_type": stage.name,
                "package_name": command.package_name,
                "package_version": version,
                "values": {k: v for k, v in own.items() if k in stage.variables},
            }
            for stage, version, own in zip(stages, versions, values, strict=True)
        ],
        created_by=command.created_by,
    )
    session.add(subscription)
    session.flush()
    job = Job(
        subscription_id=subscription.id,
        job_type=stages[0].name,
        business_ids=enlisted.business_ids,
        created_by=command.created_by,
        on_busy=command.on_busy.value,
        filtered=[asdict(host) for host in enlisted.filtered],
    )
    session.add(job)
    session.flush()
    return job, subscription


def write_task(
    session: Session,
    job: Job,
    created_by: str,
    actions: dict[str, Any],
    name: str,
    operation: Operation = Operation.EXECUTE,
) -> Task:
    """One more execution of the job's subscription."""
    task = Task(
        job_id=job.id,
        subscription_id=job.subscription_id,
        name=name,
        operation=operation,
        actions=actions,
        created_by=created_by,
    )
    session.add(task)
    session.flush()
    return task


def write_targets(
    session: Session, task: Task, hosts: tuple[Hosted, ...], rollout: Rollout | None = None
) -> list[PlannedTarget]:
    """The task's targets, current from now on, each in its wave."""
    waves = rollout.waves(len(hosts)) if rollout else (len(hosts),)
    if rollout:
        task.rollout, task.waves = dump_rollout(rollout), list(waves)
    wave_of = [wave for wave, size in enumerate(waves) for _ in range(size)]
    rows = [
        {
            "task_id": task.id,
            "job_id": task.job_id,
            "host_id": hosted.host_id,
            "instance_id": hosted.instance_id,
            "snapshot": dict(hosted.snapshot),
            "values": dict(hosted.values),
            "wave": wave,
        }
        for hosted, wave in zip(hosts, wave_of, strict=True)
    ]
    ids = insert_in_order(session, Target, rows)
    return list(map(PlannedTarget, ids, (hosted.host_id for hosted in hosts), wave_of))


def store_logins(
    ctx: Context, session: Session, job_id: int, logins: list[tuple[int, LoginSpec | None]]
) -> None:
    """Keep the logins that came along, sealed, for as long as was agreed."""
    store_credentials(
        session,
        ctx.vault,
        (
            NewCredential(
                host_id=host_id,
                kind="password" if login.auth_type is AuthType.PASSWORD else "key",
                account=login.account,
                port=login.port,
                secret=(login.password if login.auth_type is AuthType.PASSWORD else login.key)
                or "",
                retention=login.retention,
                job_id=job_id,
            )
            for host_id, login in logins
            if login and login.has_secret
        ),
        now(),
    )


def start_task(ctx: Context, session: Session, task: Task, stages: Sequence[JobType]) -> list[int]:
    """Do what needs no worker now; returns the runs to send once this is committed."""
    for job_type in stages if task.direction is Direction.FORWARD else ():
        if job_type.executor is Executor.RECORD:
            record_parts(session, job_type, task)
        if job_type.executor is Executor.REPORT:
            await_reports(session, job_type, task)
    runs = open_runs(session, [task.id])
    refresh_tasks(session, [task.id])
    return runs
