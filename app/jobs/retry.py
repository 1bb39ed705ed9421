"""Try again what is not proven OK: a new task over those targets, or a new run of one part."""

from collections.abc import Collection, Sequence

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from app.access.credentials import usable_logins
from app.domain.catalogue import CATALOGUE, JobType, Step
from app.domain.commands import HostSpec, RetryJob
from app.domain.errors import InvalidRequest, LoginMissing, NothingToRetry, TaskNotFound, WrongState
from app.domain.graph import ABORTED, subtask_capability, task_capability
from app.domain.rollout import Rollout, parse_rollout
from app.domain.selection import Candidate, Selection, choose_retry
from app.domain.states import Direction, Operation, Status, Undo
from app.hosts.update import note_logins
from app.jobs.context import Context
from app.jobs.enlist import Hosted
from app.jobs.find import failed_parts, find_job, require, take_subtask, take_task
from app.jobs.fold import refresh_job
from app.jobs.instances import stored_names
from app.jobs.logins import standing_logins
from app.jobs.plan import plan_task
from app.jobs.reopen import reopen_parts
from app.jobs.submit import start_task, store_logins, write_targets, write_task
from app.jobs.substitute import choose_stages
from app.jobs.undo import check_former
from app.log import log
from app.models.base import again_on_deadlock, among, now, transaction
from app.models.fleet import Host
from app.models.work import Job, Part, StepRow, Target, Task


@again_on_deadlock
def retry_job(ctx: Context, command: RetryJob) -> int:
    """A new task over the current targets that failed, or those named; returns its id.

    The rules are contracts/nodeman.md §3.4. Raises NothingToRetry, LoginMissing, TaskNotFound,
    InvalidRequest, PreconditionFailed, PackageMissing, JobNotFound or SubscriptionNotFound, and
    then nothing has been written.
    """
    with transaction(ctx.engine) as session:
        job = find_job(session, command.job_id, command.subscription_id)
        chosen = _choose(session, job, command)
        targets = session.scalars(_by_ids([c.target_id for c in chosen.chosen])).all()
        _check_whose(command, targets)
        store_logins(ctx, session, job.id, list(command.logins.items()))
        note_logins(session, command.logins)
        session.flush()
        rollout = _rollout_of(session, targets[-1].task_id)
        stages = choose_stages(session, job, command, [t.host_id for t in targets], rollout)
        check_logins(ctx, session, [t.host_id for t in targets], stages.values())
        task = write_task(
            session,
            job,
            command.created_by or job.created_by,
            {stage: job_type.name for stage, job_type in stages.items()},
            session.scalars(select(Task.name).where(Task.job_id == job.id)).first() or "",
            Operation.RETRY,
        )
        _supersede(session, targets)
        hosts = tuple(_hosted(target) for target in targets)
        planned = write_targets(session, task, hosts, rollout)
        plan_task(session, task, list(stages.values()), planned, ctx.settings.slice_size)
        job.is_stopping, job.finished_at = False, None
        session.flush()
        runs = start_task(ctx, session, task, list(stages.values()))
        refresh_job(session, job.id)
    ctx.queue.send(runs)
    return task.id


@again_on_deadlock
def retry_step(
    ctx: Context, *, instance_id: str, job_id: int | None = None, subscription_id: int | None = None
) -> tuple[int, Step]:
    """Run the play that holds this target's failed step again; that step, and which it is."""
    with transaction(ctx.engine) as session:
        job = find_job(session, job_id, subscription_id)
        part = _failed_part(session, job, instance_id)
        if part is None:
            raise NothingToRetry(f"{instance_id} has no failed step.", instance_id=instance_id)
        if take_task(session, part.task_id).is_aborted:
            raise NothingToRetry(ABORTED, instance_id=instance_id)
        check_logins(ctx, session, [part.host_id], [CATALOGUE[part.job_type]])
        step = session.scalars(
            select(StepRow)
            .where(StepRow.part_id == part.id, StepRow.status == Status.FAILED)
            .order_by(StepRow.index)
        ).first()
        reopen_parts(session, [part])
        job.is_stopping = False
        task = session.get_one(Task, part.task_id)
        runs = start_task(ctx, session, task, [CATALOGUE[part.job_type]])
        index = step.index if step else 0
        failed = CATALOGUE[part.job_type].steps[index]
    ctx.queue.send(runs)
    return index, failed


@again_on_deadlock
def retry_task(ctx: Context, task_id: int, by: str) -> None:
    """Run every failed subtask of a failed task again, for the parts not proven OK.

    In a task that goes back: what could not be taken back is tried again, backwards. Raises
    TaskNotFound, WrongState, HeldByNewerTask, LoginMissing or PackageMissing.
    """
    with transaction(ctx.engine) as session:
        task = take_task(session, task_id)
        require(
            task_capability(
                Operation.RETRY, task.status, task.direction, False, is_aborted=task.is_aborted
            ),
            task.status.name,
        )
        parts = failed_parts(session, task)
        if task.direction is Direction.FORWARD:
            task.operation = Operation.RETRY
        runs = _try_again(ctx, session, task, parts)
    log.info("A task is tried again", task_id=task_id, by=by)
    ctx.queue.send(runs)


@again_on_deadlock
def retry_subtask(ctx: Context, task_id: int, subtask_id: int, by: str) -> None:
    """Run one failed subtask again, for its parts not proven OK: a new run, one attempt later.

    Of several identical requests exactly one is accepted (contracts/ocp-tasks.md §4.4). Raises
    TaskNotFound, SubtaskNotFound, WrongState, HeldByNewerTask, LoginMissing or PackageMissing.
    """
    with transaction(ctx.engine) as session:
        task, subtask = take_subtask(session, task_id, subtask_id)
        require(
            subtask_capability(
                Operation.RETRY, subtask.status, task.direction, is_aborted=task.is_aborted
            ),
            subtask.status.name,
        )
        parts = failed_parts(session, task, [subtask.id])
        if not parts:
            raise WrongState(
                "This subtask is still to be taken back; its rollback has not failed.",
                state=subtask.status.name,
            )
        runs = _try_again(ctx, session, task, parts)
        if all(part.status is Status.FAILED and part.undo is None for part in parts):
            raise WrongState(f"It cannot begin: {parts[0].reason}.", state=subtask.status.name)
    log.info("A subtask is tried again", task_id=task_id, subtask_id=subtask_id, by=by)
    ctx.queue.send(runs)


def _try_again(ctx: Context, session: Session, task: Task, parts: Sequence[Part]) -> list[int]:
    stages = {CATALOGUE[part.job_type] for part in parts}
    check_logins(ctx, session, [part.host_id for part in parts], stages)
    forward = task.direction is Direction.FORWARD
    reopen_parts(session, parts, Operation.RETRY if forward else Operation.ROLLBACK)
    check_former(session, task)
    session.get_one(Job, task.job_id).is_stopping = False
    return start_task(ctx, session, task, list(stages))


def _check_whose(command: RetryJob, targets: Sequence[Target]) -> None:
    """A login may come along only for a host that is tried again: it outlives this request."""
    if others := sorted(set(command.logins) - {target.host_id for target in targets}):
        hosts = ", ".join(map(str, others))
        raise InvalidRequest(f"hosts: {hosts} is not tried again here; send only logins of those.")


def _choose(session: Session, job: Job, command: RetryJob) -> Selection:
    known = set(session.scalars(select(Task.id).where(Task.job_id == job.id)))
    if unknown := sorted(set(command.task_ids) - known):
        raise TaskNotFound(
            f"Task {unknown[0]} is not one of subscription {job.subscription_id}.", task_ids=unknown
        )
    columns = (Target.id, Target.instance_id, Target.task_id, Target.status, Target.is_current)
    rows = session.execute(select(*columns).where(Target.job_id == job.id)).all()
    candidates = [
        Candidate(
            target_id=row.id,
            instance_id=row.instance_id,
            task_id=row.task_id,
            status=row.status,
            is_current=row.is_current,
        )
        for row in rows
    ]
    names = set(stored_names(session, job.id, command.instance_ids).values())
    selection = choose_retry(candidates, command.task_ids, names)
    if not selection.chosen:
        raise NothingToRetry(_why_nothing(job, selection), held_by=list(selection.held_by))
    return selection


def _why_nothing(job: Job, selection: Selection) -> str:
    if selection.held_by:
        tasks = ", ".join(map(str, selection.held_by))
        return f"These targets are held by newer task {tasks}; retry that one."
    return f"Subscription {job.subscription_id} has no failed task to retry."


def check_logins(
    ctx: Context, session: Session, host_ids: Collection[int], stages: Collection[JobType]
) -> None:
    """Refuse before anything starts when a host has no way in any more; raises LoginMissing."""
    if not any(stage.changes_host for stage in stages):
        return
    hosts = session.scalars(select(Host).where(among(Host.id, host_ids))).all()
    usable = usable_logins(
        session, ctx.vault, host_ids, now(), standing=standing_logins(ctx, hosts)
    )
    missing = {host.label: EXPIRED for host in hosts if host.id not in usable}
    if missing:
        raise LoginMissing("No usable login for: " + ", ".join(missing) + ".", hosts=missing)


EXPIRED = "its login has expired; send a new one in hosts[] of the retry"


def _supersede(session: Session, targets: Sequence[Target]) -> None:
    theirs = among(Target.id, (target.id for target in targets))
    # nobody looks at these objects again: to find them among themselves costs the square of them
    unseen = {"synchronize_session": False}
    session.execute(update(Target).where(theirs).values(is_current=False), execution_options=unseen)


def _hosted(target: Target) -> Hosted:
    return Hosted(
        host_id=target.host_id,
        business_id=target.snapshot.get("business_id", 0),
        zone_id=target.snapshot.get("zone_id", 0),
        instance_id=target.instance_id,
        spec=HostSpec(host_id=target.host_id),
        snapshot=target.snapshot,
        values=target.values,
    )


def _rollout_of(session: Session, task_id: int) -> Rollout | None:
    """A retry is as careful as the task whose hosts it takes over."""
    raw = session.get_one(Task, task_id).rollout
    return parse_rollout(raw) if raw else None


def _by_ids(ids: Sequence[int]) -> Select[Target]:
    return select(Target).where(among(Target.id, ids)).order_by(Target.id)


def _failed_part(session: Session, job: Job, instance_id: str) -> Part | None:
    names = stored_names(session, job.id, [instance_id]).values()
    return session.scalars(
        select(Part)
        .join(Target, Target.id == Part.target_id)
        .where(
            Target.job_id == job.id,
            Target.instance_id.in_(names),
            Target.is_current,
            Part.status == Status.FAILED,
            or_(Part.undo.is_(None), Part.undo == Undo.FAILED),
        )
        .order_by(Part.stage)
    ).first()
