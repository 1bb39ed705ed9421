"""Work a person does on the host by hand: it waits for the host's report, up to a deadline."""

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.automation.said import bounded
from app.domain.catalogue import CATALOGUE, JobType
from app.domain.errors import Forbidden, NotFound
from app.domain.states import Cause, Status
from app.jobs.context import Context
from app.jobs.dispatch import open_runs
from app.jobs.fold import refresh_tasks
from app.jobs.outcome import apply_effect
from app.models.base import again_on_deadlock, chunks, now, reading, transaction
from app.models.counter import take_turn
from app.models.fleet import Host
from app.models.journal import Entry, append_events
from app.models.work import Part, ReportToken, StepRow, Subtask, Target, Task

WAITS = "waits for the install command to be run on the host"
LATE = "nobody ran the install command in time; retry to get a new one"
GIVEN_UP = (
    "stopped on request: nobody waits for the install command any more, and whoever still has it "
    "can neither fetch the program nor report; if it was run before, look at the host"
)
LOG_LIMIT = 64 * 1024  # characters of one step's log


@dataclass(frozen=True)
class ManualTicket:
    """What a person needs to install one host by hand; the token is shown once."""

    part_id: int
    host_id: int
    address: str  # of the host
    token: str


def await_reports(session: Session, job_type: JobType, task: Task) -> None:
    """What waits for it now runs on its host, without a worker, until it reports."""
    at = now()
    query = select(Part).where(
        Part.task_id == task.id, Part.job_type == job_type.name, Part.status == Status.PENDING
    )
    waiting = session.scalars(query).all()
    _begin(session, task, {part.subtask_id for part in waiting}, at)
    for part in waiting:
        part.move_to(Status.RUNNING, WAITS, at=at)
        session.merge(
            StepRow(
                part_id=part.id,
                index=0,
                key=job_type.steps[0].key,
                status=Status.RUNNING,
                log=WAITS,
                run_id=0,
                started_at=at,
            )
        )
        token = ReportToken(
            part_id=part.id,
            token_hash=_hash(secrets.token_urlsafe()),
            due_at=at + job_type.report_deadline,
        )
        session.merge(token)


def _begin(session: Session, task: Task, subtask_ids: Collection[int], at: datetime) -> None:
    """An attempt at these subtasks begins, though no run makes it."""
    task.started_at = task.started_at or at
    for some in chunks(subtask_ids):
        for subtask in session.scalars(select(Subtask).where(Subtask.id.in_(some))):
            subtask.attempt += 1 if subtask.started_at else 0
            subtask.started_at = subtask.started_at or at


def manual_ticket(ctx: Context, job_id: int, host_id: int) -> ManualTicket | None:
    """A fresh token for the host's waiting part; None when nothing waits there."""
    with transaction(ctx.engine) as session:
        take_turn(session)
        row = session.execute(
            select(Part, ReportToken, Host)
            .join(ReportToken, ReportToken.part_id == Part.id)
            .join(Host, Host.id == Part.host_id)
            .join(Target, Target.id == Part.target_id)
            .where(
                Part.job_id == job_id,
                Part.host_id == host_id,
                Part.status == Status.RUNNING,
                Target.is_current,
            )
        ).first()
        if row is None:
            return None
        part, kept, host = row
        token = secrets.token_urlsafe()
        kept.token_hash = _hash(token)
        return ManualTicket(
            part_id=part.id, host_id=host.id, address=host.login_address, token=token
        )


def part_of_token(session: Session, token: str) -> Part:
    """The waiting part this token is for; anything else is refused."""
    kept = session.scalar(select(ReportToken).where(ReportToken.token_hash == _hash(token)))
    if kept is None or kept.due_at < now():
        raise Forbidden(
            "This command's token has been used, was replaced by a newer one, or its time is over; "
            "get the command again while the job waits for it."
        )
    part = session.get_one(Part, kept.part_id)
    if part.status is not Status.RUNNING:
        raise Forbidden(f"This command is over: {part.reason}.")
    return part


@again_on_deadlock
def take_report(ctx: Context, token: str, logs: Sequence[Mapping[str, Any]]) -> None:
    """Write down what a host says of its own installation (contracts/nodeman.md §4.3).

    A log with status DONE ends the part well, when it brings what was found (`after`); FAILED ends
    it badly. Raises Forbidden when the token is not, or no longer, good.
    """
    with transaction(ctx.engine) as session:
        take_turn(session)
        part = part_of_token(session, token)
        step = session.get(StepRow, (part.id, 0))
        if step is None:
            raise NotFound("There is no such step.")
        for entry in logs:
            _take(session, part, step, entry)
        data = part.change
        append_events(session, part.job_id, [Entry(kind="part", data=data, host_id=part.host_id)])
        runs = open_runs(session, [part.task_id])
        refresh_tasks(session, [part.task_id])
    ctx.queue.send(runs)


def _take(session: Session, part: Part, step: StepRow, entry: Mapping[str, Any]) -> None:
    entry = bounded(dict(entry))
    text, status = str(entry.get("log") or ""), str(entry.get("status") or "").upper()
    step.log = f"{step.log}\n{text}".strip()[-LOG_LIMIT:]
    if part.status.is_final:
        return  # the same report has ended it already
    if status == "FAILED":
        part.move_to(Status.FAILED, text or "the installer failed", cause=_cause(entry))
        _end(session, part, step)
    elif status == "DONE":
        part.after = dict(entry.get("after") or {}) or None
        part.move_to(Status.SUCCESS, "reported by the host")
        host = session.get_one(Host, part.host_id)
        apply_effect(host, CATALOGUE[part.job_type].effect, part.after or {})
        _end(session, part, step)


def _cause(entry: Mapping[str, Any]) -> Cause:
    try:
        return Cause(str(entry.get("cause")))
    except ValueError:
        return Cause.TASK_FAILED


def _end(session: Session, part: Part, step: StepRow) -> None:
    step.status, step.finished_at = part.status, part.finished_at
    if token := session.get(ReportToken, part.id):
        session.delete(token)


@again_on_deadlock
def expire_reports(ctx: Context) -> int:
    """Fail the parts whose deadline is over; returns how many."""
    with reading(ctx.engine) as session:
        overdue = select(ReportToken.part_id).where(ReportToken.due_at < now())
        if session.scalar(overdue.limit(1)) is None:
            return 0
    with transaction(ctx.engine) as session:
        take_turn(session)  # a report that is being written at this moment came in time
        late = session.execute(
            select(Part, StepRow)
            .join(ReportToken, ReportToken.part_id == Part.id)
            .join(StepRow, StepRow.part_id == Part.id)
            .where(ReportToken.due_at < now())
        ).all()
        failed = [part.task_id for part, _ in late if part.status is Status.RUNNING]
        for part, step in late:
            if part.status is Status.RUNNING:
                part.move_to(Status.FAILED, LATE, cause=Cause.TIMEOUT)
                step.log = f"{step.log}\n{LATE}".strip()
                entry = Entry(kind="part", data=part.change, host_id=part.host_id)
                append_events(session, part.job_id, [entry])
            _end(session, part, step)
        refresh_tasks(session, failed)
    return len(failed)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
