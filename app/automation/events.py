"""Read what ansible-playbook tells into the few facts we care about."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from app.automation.causes import classify
from app.automation.said import NotAnAnswer, bounded, checked, kept, shorten
from app.domain.states import Cause

ResultStatus = Literal["ok", "failed", "unreachable", "skipped"]
Outcome = Literal["successful", "failed", "stopped", "timeout", "error"]
MOST_REASON = 4000  # characters; the log has more
MOST_MATCHED = 16_000  # characters of one text in which a cause is looked for
NOT_OURS = -1  # a host the inventory did not name, such as localhost


@dataclass(frozen=True, slots=True)
class HostStarted:
    """A task began on a host."""

    host_id: int
    task: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HostResult:
    """A task ended on a host."""

    host_id: int
    task: str
    status: ResultStatus
    ignored: bool  # failed, and the playbook does not mind
    cause: Cause | None
    reason: str
    result: dict[str, Any]
    at: datetime
    is_unreadable: bool = False  # whatever Ansible makes of it, nobody knows what the host did

    @property
    def is_bad(self) -> bool:
        return self.status in ("failed", "unreachable") and not self.ignored


@dataclass(frozen=True, slots=True)
class Output:
    """What a person running this by hand would have read."""

    host_id: int | None
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Statistics:
    """Ansible's own closing count."""

    ok: frozenset[int]
    failed: frozenset[int]
    unreachable: frozenset[int]
    rescued: frozenset[int]
    processed: frozenset[int]
    at: datetime


Event = HostStarted | HostResult | Output | Statistics


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of every host of the limit; each is in exactly one of the first three."""

    proven_ok: frozenset[int]
    failed: dict[int, tuple[Cause, str]]
    not_started: frozenset[int]
    outside_limit: frozenset[int]
    outcome: Outcome
    message: str


def read(raw: Mapping[str, Any]) -> Iterator[Event]:
    """What one raw event says; most say one thing, and what they print.

    One that is malformed costs itself, or its host the result: never the run.
    """
    kind, data = raw.get("event"), raw.get("event_data")
    data = data if isinstance(data, Mapping) else {}
    at = _time(raw.get("created"))
    if isinstance(kind, str) and (reader := READERS.get(kind)):
        try:
            yield reader(kind, data, at)
        except (TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
            if kind in RESULTS:
                yield _unreadable(data, f"{UNREADABLE} ({type(error).__name__})", at)
    text, name = raw.get("stdout"), data.get("host")
    if isinstance(text, str) and (text := kept(text)):
        yield Output(_host_id(name) if name else None, text + "\n", at)


def _started(_kind: str, data: Mapping[str, Any], at: datetime) -> HostStarted:
    return HostStarted(_host_id(data.get("host")), _text(data.get("task")), at)


def _result(kind: str, data: Mapping[str, Any], at: datetime) -> HostResult:
    if why := data.get("unreadable"):
        return _unreadable(data, str(why), at)
    status = RESULTS[kind]
    said = data.get("res") or {}
    # what is matched, stored and shown later is bounded here, once
    result = bounded({n: said[n] for n in said if n not in NOISE and n[:9] != "_ansible_"})
    ignored = status == "failed" and bool(data.get("ignore_errors"))
    bad = status in ("failed", "unreachable") and not ignored
    if "phases" in result:
        try:
            result |= checked(result)
        except NotAnAnswer as why:
            return _unreadable(data, str(why), at)
    cause, reason = classify(_to_match(result, status)) if bad else (None, "")
    reason = shorten(reason, MOST_REASON)
    return HostResult(
        host_id=_host_id(data.get("host")),
        task=_text(data.get("task")),
        status=status,
        ignored=ignored,
        cause=cause,
        reason=reason,
        result=result,
        at=at,
    )


def _to_match(result: Mapping[str, Any], status: ResultStatus) -> dict[str, Any]:
    """What tells the cause: cut before anything is looked for in it."""
    return {**_cut(result), "unreachable": status == "unreachable"}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return shorten(value, MOST_MATCHED)
    if isinstance(value, Mapping):
        return {name: _cut(member) for name, member in value.items()}
    return [_cut(member) for member in value] if isinstance(value, list) else value


def _unreadable(data: Mapping[str, Any], why: str, at: datetime) -> HostResult:
    """In place of a result nobody can read: its host is not proven, whatever its task says."""
    return HostResult(
        host_id=_host_id(data.get("host")),
        task=_text(data.get("task")),
        status="failed",
        ignored=False,
        cause=Cause.TASK_FAILED,
        reason=kept(why),
        result={},
        at=at,
        is_unreadable=True,
    )


UNREADABLE = "The host's answer could not be read."


def _text(value: object) -> str:
    return kept(str(value or ""), 256)


def _statistics(_kind: str, data: Mapping[str, Any], at: datetime) -> Statistics:
    def hosts(counter: str) -> frozenset[int]:
        return frozenset(
            _host_id(name) for name, count in (data.get(counter) or {}).items() if count
        )

    return Statistics(
        ok=hosts("ok"),
        failed=hosts("failures"),
        unreachable=hosts("dark"),
        rescued=hosts("rescued"),
        processed=hosts("processed"),
        at=at,
    )


RESULTS: dict[str, ResultStatus] = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}
# Not read: runner_item_on_* (the task's own result follows), runner_on_async_*, runner_retry.
READERS: dict[str, Callable[[str, Mapping[str, Any], datetime], Event]] = {
    "runner_on_start": _started,
    "playbook_on_stats": _statistics,
    **dict.fromkeys(RESULTS, _result),
}
NOISE = frozenset(
    {"invocation", "ansible_facts", "exception", "deprecations", "failed", "unreachable"}
)

HOST_NAME = re.compile(r"host_([0-9]{1,18})")


def _host_id(name: object) -> int:
    match = HOST_NAME.fullmatch(str(name))
    return int(match[1]) if match else NOT_OURS


def _time(text: object) -> datetime:
    try:
        return datetime.fromisoformat(text)  # type: ignore[arg-type]  # what is no text is now
    except (TypeError, ValueError):
        return datetime.now(UTC)


# --- The verdict --------------------------------------------------------------------------------


@dataclass
class Tally:
    """Folds events into a verdict: statistics when there are any, proof by events when not."""

    limit: frozenset[int]
    statistics: Statistics | None = None
    seen: set[int] = field(default_factory=set)
    bad: dict[int, tuple[Cause, str]] = field(default_factory=dict)
    going_on: set[int] = field(default_factory=set)  # failed, then went on: rescued, or tidying up
    proven: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)
    words: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        match event:
            case HostStarted():
                self.seen.add(event.host_id)
                self.proven.discard(event.host_id)  # it is at work again
            case HostResult():
                self._add_result(event)
            case Output(host_id=None):
                self.words = [*self.words[-19:], event.text]
            case Statistics():
                self.statistics = event

    def _add_result(self, result: HostResult) -> None:
        host_id = result.host_id
        self.seen.add(host_id)
        if result.is_unreadable:
            self.unreadable.add(host_id)
        if result.is_bad:
            self.bad[host_id] = (result.cause or Cause.TASK_FAILED, result.reason)
            self.going_on.discard(host_id)
            self.proven.discard(host_id)
            return
        if host_id in self.bad:
            self.going_on.add(host_id)
        if result.status == "ok" and "phases" in result.result:
            self.proven.add(host_id)

    @property
    def outside_limit(self) -> frozenset[int]:
        return frozenset(self.seen - self.limit)

    @property
    def last_words(self) -> str:
        return shorten("".join(self.words).strip(), MOST_REASON)

    def verdict(self, outcome: Outcome, message: str) -> Verdict:
        if self.statistics:
            bad = self.statistics.failed | self.statistics.unreachable
            proven = (self.statistics.processed - bad - self.unreadable) & self.limit
            reached = self.seen | self.statistics.processed
        else:
            proven, reached = frozenset(self.proven) & self.limit, self.seen
        return Verdict(
            proven_ok=proven,
            failed={
                host: self._why(host, outcome) for host in sorted((self.limit & reached) - proven)
            },
            not_started=self.limit - reached,
            outside_limit=self.outside_limit,
            outcome=outcome,
            message=message,
        )

    def _why(self, host_id: int, outcome: Outcome) -> tuple[Cause, str]:
        """Its own fault; but one it went on from counts only if the statistics say so."""
        fallback = UNPROVEN.get(outcome, UNPROVEN["error"])
        if host_id in self.going_on and not self.statistics:
            return fallback
        return self.bad.get(host_id, fallback)


UNPROVEN: dict[str, tuple[Cause, str]] = {
    "stopped": (Cause.CANCELLED, "Stopped on request, before it was finished."),
    "timeout": (
        Cause.TIMEOUT,
        "It was not finished in time. Look at its log for where it hangs, then retry.",
    ),
    "error": (Cause.LOST, "The run ended before this host's result arrived. Retry it."),
}
