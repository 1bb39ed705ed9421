"""Write down what happens in a run while it happens: parts, steps, events and the log."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import Table, delete, select, update
from sqlalchemy.orm import Session

from app.access.redact import Redactor
from app.automation.events import Event, HostResult, HostStarted, Output
from app.domain.errors import Conflict
from app.domain.states import Cause, Direction, Status, Undo
from app.jobs.claim import HELD, Claim
from app.jobs.context import Context
from app.jobs.fold import refresh_targets
from app.models.base import again_on_deadlock, transaction
from app.models.journal import Entry, append_events
from app.models.rows import insert_rows, store_rows
from app.models.work import LogChunk, Part, Run, StepRow

BATCH = 500  # events in one transaction, when they come faster than they are written
INTERVAL = 0.2  # seconds an event waits before it is written
LONGEST = 1.0  # the same where writing is slow
SHARE = 100  # as many times as long as the last writing took the next one waits: 1 % of a core
STEP: Table = StepRow.__table__  # type: ignore[assignment]  # rows: an object each is too slow
LOG_LIMIT = 64 * 1024  # characters of one step's log
STEP_STATUS = {
    "failed": Status.FAILED,
    "skipped": Status.SUCCESS,
    "ok": Status.SUCCESS,
    "restored": Status.SUCCESS,  # it worked; a later step failed, and this one was taken back
}


class Fenced(Conflict):
    """This run is no longer ours; nothing more may be written for it."""


class Recorder:
    """Takes events from the thread that reads them and writes them in batches from its own."""

    def __init__(
        self, ctx: Context, claim: Claim, redactor: Redactor, on_fenced: Callable[[], object]
    ) -> None:
        self.ctx = ctx
        self.claim = claim
        self.redactor = redactor
        self.on_fenced = on_fenced
        self.stopping: set[int] = set()  # hosts being stopped: settle says how that ended
        self._events: deque[Event] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def take(self, event: Event) -> None:
        """Remember this event; it is written within a second, mostly a fifth of one."""
        if isinstance(event, HostStarted | HostResult | Output):
            self._events.append(event)
            if len(self._events) >= BATCH:
                self._wake.set()

    def close(self) -> None:
        """Write what is left; raises what went wrong while writing."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        if self._trouble:
            raise self._trouble

    def _write_all(self) -> None:
        try:
            interval = INTERVAL
            while not (self._closing and not self._events):
                self._wake.wait(interval)
                self._wake.clear()
                began = time.monotonic()
                self._write_batch()
                interval = min(max(INTERVAL, SHARE * (time.monotonic() - began)), LONGEST)
        except Exception as trouble:
            self._trouble = trouble
            self.on_fenced()

    def _write_batch(self) -> None:
        while self._events:
            batch = [self._events.popleft() for _ in range(min(BATCH, len(self._events)))]
            self._write(batch)

    @again_on_deadlock
    def _write(self, batch: list[Event]) -> None:
        with transaction(self.ctx.engine) as session:
            write_events(session, self.claim, self.redactor, batch, self.stopping)


def write_events(
    session: Session,
    claim: Claim,
    redactor: Redactor,
    events: Iterable[Event],
    stopping: Iterable[int] = (),
) -> None:
    """One batch, all of it or nothing; raises Fenced when the run is not ours any more."""
    batch = _Batch(claim, redactor, frozenset(stopping))
    events = list(events)
    chunks = [_chunk(redactor, event) for event in events if isinstance(event, Output)]
    offset = _advance(session, claim, sum(len(content) for _, content in chunks))
    _write_log(session, claim, chunks, offset)
    batch.load(session, events)
    for event in events:
        batch.apply(session, event)
    batch.finish(session)


def _advance(session: Session, claim: Claim, size: int) -> int:
    """Where this batch's text begins in the log of the run."""
    end = session.execute(
        update(Run)
        .where(Run.id == claim.run_id, Run.owner == claim.owner, Run.status.in_(HELD))
        .values(log_size=Run.log_size + size)
        .returning(Run.log_size)
    ).scalar()
    if end is None:
        raise Fenced(run_id=claim.run_id)
    return end - size


def _chunk(redactor: Redactor, event: Output) -> tuple[int | None, bytes]:
    return event.host_id, redactor.text(event.text).encode(errors="replace")


def _write_log(
    session: Session, claim: Claim, chunks: list[tuple[int | None, bytes]], offset: int
) -> None:
    rows = []
    for host_id, content in chunks:
        if content:
            row = {"run_id": claim.run_id, "offset": offset, "host_id": host_id}
            rows.append(row | {"content": content})
            offset += len(content)
    insert_rows(session, LogChunk, rows)


@dataclass
class _Batch:
    """The rows one batch of events touches."""

    claim: Claim
    redactor: Redactor
    stopping: frozenset[int]
    parts: dict[int, Part] = field(default_factory=dict)  # by host id
    steps: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    stored: set[tuple[int, int]] = field(default_factory=set)  # steps that have a row
    written: set[tuple[int, int]] = field(default_factory=set)  # steps that are to be stored
    restarted: set[int] = field(default_factory=set)  # parts whose old steps are to be forgotten
    entries: list[Entry] = field(default_factory=list)

    def load(self, session: Session, events: Iterable[Event]) -> None:
        hosts = {e.host_id for e in events if isinstance(e, HostStarted | HostResult)}
        ids = [self.claim.parts[host] for host in hosts if host in self.claim.parts]
        for part in session.scalars(select(Part).where(Part.id.in_(ids))):
            self.parts[part.host_id] = part
        for step in session.execute(select(STEP).where(STEP.c.part_id.in_(ids))).mappings():
            self.steps[step["part_id"], step["index"]] = dict(step)
        self.stored = set(self.steps)

    def apply(self, session: Session, event: Event) -> None:
        part = None if isinstance(event, Output) else self.parts.get(getattr(event, "host_id", -1))
        if part is None or part.run_id != self.claim.run_id:
            return
        if isinstance(event, HostStarted):
            self._started(session, part, event)
        elif isinstance(event, HostResult):
            self._ended(session, part, event)

    def _started(self, session: Session, part: Part, event: HostStarted) -> None:
        if part.status is Status.RUNNING or not self._is_waiting(part):
            return
        part.move_to(Status.RUNNING, at=event.at)
        part.has_started = True
        if self.is_forward:
            self._forget_steps(part)
            self._step(part, 0, status=Status.RUNNING, started_at=event.at)
        self._note(part, event.at)

    def _is_waiting(self, part: Part) -> bool:
        """Not begun in this run: pending on the way there, still to be undone on the way back."""
        return part.status is Status.PENDING if self.is_forward else part.undo is Undo.DUE

    def _ended(self, session: Session, part: Part, event: HostResult) -> None:
        if event.status == "skipped" or event.ignored:
            return
        result = event.result
        phases = result.get("phases") or []
        reason = self.redactor.text(event.reason)
        if self.is_forward:  # the steps of a part show how it was done, not how it was undone
            self._write_phases(part, phases, event, reason)
            if part.before is None:  # what an earlier attempt may have left was not there before
                part.before = self.redactor.value(result.get("before"))
        part.after = self.redactor.value(result.get("after")) or part.after
        if event.host_id in self.stopping or event.cause is Cause.CANCELLED:
            return  # settle decides, once it is proved what became of it
        if event.is_bad and (part.status is Status.RUNNING or self._is_waiting(part)):
            part.fail(reason, event.cause, at=event.at)
        elif not event.is_bad and phases and not self._is_proven(part):
            part.prove(_summary(result), at=event.at)
        self._note(part, event.at)

    def _is_proven(self, part: Part) -> bool:
        return part.status is self.proven and part.undo is None

    @property
    def proven(self) -> Status:
        return Status.SUCCESS if self.is_forward else Status.PENDING

    @property
    def is_forward(self) -> bool:
        return self.claim.direction is Direction.FORWARD

    def _write_phases(
        self,
        part: Part,
        phases: list[Mapping[str, Any]],
        event: HostResult,
        reason: str,
    ) -> None:
        times = _times(phases, event.at)
        last = 0
        for phase, (began, ended) in zip(phases, times, strict=True):
            index = self.claim.job_type.step_index(str(phase.get("key")))
            log = self.redactor.text(str(phase.get("log") or ""))[:LOG_LIMIT]
            if index is None:  # restoring what was there belongs to the step that failed
                self._append_log(part, last, log)
                continue
            last = index
            status = STEP_STATUS.get(str(phase.get("status")), Status.FAILED)
            if phase.get("status") == "restored":
                log = f"{log.rstrip()}\nThis was taken back, because a later step failed."
            self._step(
                part, index, status=status, changed=bool(phase.get("changed")),
                log=log, started_at=began, finished_at=ended,
            )  # fmt: skip
        if event.is_bad:
            self._fail_step(part, phases, reason, event.at)

    def _fail_step(self, part: Part, phases: list[Any], reason: str, at: datetime) -> None:
        """Some step of a failed part has failed, and its log says why."""
        failed = next((row for row in self._steps_of(part) if row["status"] is Status.FAILED), None)
        if failed is None:
            index = len(phases) if len(phases) < len(self.claim.job_type.steps) else 0
            self._step(part, index, status=Status.FAILED, log=reason, finished_at=at)
        elif reason not in failed["log"]:
            self._append_log(part, failed["index"], reason)

    def _steps_of(self, part: Part) -> Iterator[dict[str, Any]]:
        places = ((part.id, index) for index in range(len(self.claim.job_type.steps)))
        return (self.steps[place] for place in places if place in self.steps)

    def _step(self, part: Part, index: int, **values: Any) -> None:
        place = part.id, index
        row = self.steps.get(place)
        if row is None:
            row = self.steps[place] = self._new_step(part, index)
        row.update(values)
        row["run_id"] = self.claim.run_id
        self.written.add(place)

    def _new_step(self, part: Part, index: int) -> dict[str, Any]:
        return {
            "part_id": part.id,
            "index": index,
            "key": self.claim.job_type.steps[index].key,
            "changed": False,
            "log": "",
            "started_at": None,
            "finished_at": None,
        }

    def _append_log(self, part: Part, index: int, log: str) -> None:
        if (step := self.steps.get((part.id, index))) and log:
            step["log"] = f"{step['log'].rstrip()}\n{log}".strip()
            self.written.add((part.id, index))

    def _forget_steps(self, part: Part) -> None:
        """A new attempt shows its own steps; the log of the run before keeps the old ones."""
        for step in list(self._steps_of(part)):
            place = part.id, step["index"]
            self.restarted.add(part.id)
            self.written.discard(place)
            self.stored.discard(place)
            del self.steps[place]

    def _note(self, part: Part, at: datetime) -> None:
        self.entries.append(
            Entry(
                kind="part",
                data=part.change,
                host_id=part.host_id,
                run_id=self.claim.run_id,
                at=at,
            )
        )

    def finish(self, session: Session) -> None:
        if self.restarted:
            session.execute(delete(STEP).where(STEP.c.part_id.in_(self.restarted)))
        insert_rows(session, StepRow, self._rows(self.written - self.stored))
        store_rows(session, StepRow, self._rows(self.written & self.stored))
        append_events(session, self.claim.job_id, self.entries)
        if self.parts:
            refresh_targets(session, self.claim.task_id)

    def _rows(self, places: Iterable[tuple[int, int]]) -> list[dict[str, Any]]:
        return [self.steps[place] for place in sorted(places)]


def _summary(result: Mapping[str, Any]) -> str:
    return "changed" if result.get("changed") else "unchanged"


def _times(phases: list[Mapping[str, Any]], end: datetime) -> list[tuple[datetime, datetime]]:
    """When each phase began and ended, counted back from when the result arrived."""
    lengths = [timedelta(0, float(phase.get("seconds") or 0)) for phase in phases]
    moments = [end - sum(lengths, timedelta())]
    for length in lengths:
        moments.append(moments[-1] + length)
    return list(pairwise(moments))
