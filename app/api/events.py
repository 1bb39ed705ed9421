"""The events of a job as they happen: /api/job/<id>/events/, server-sent and resumable."""

import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from functools import partial
from types import FrameType
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from app.access.caller import Caller, Role, require
from app.api.auth import HEADER, identify
from app.api.callers import COOKIE, find_caller
from app.api.dialect import Dialect, context, parameters
from app.domain.errors import InvalidRequest
from app.jobs.context import Context
from app.jobs.event_queries import EventView, Gap, events_after, job_pulse

PATH = "/api/job/<job_id>/events/"
OWN = re.compile(r"^/api/job/[^/]+/events/?$")
LOOK = 0.25  # seconds between two looks at a job in which nothing happens
HEARTBEAT = 15.0  # seconds of silence after which a comment says that we are still there
RECONNECT = 2000  # milliseconds a browser waits before it comes again
RETRY_AFTER = 10  # seconds, for those who found no place
MAX_SEQ = 2**63 - 1


closing = threading.Event()  # the server stops: whoever listens comes again, to the next one


def end_on_stop() -> None:
    """Let a server that is told to stop end its streams first, instead of waiting for them."""
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        closing.set()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, stop)


class Places:
    """How many may listen at a time, and how many of them one caller: each keeps a thread."""

    def __init__(self, number: int) -> None:
        self._number, self._each = number, max(1, number // 2)
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, who: str) -> bool:
        with self._lock:
            if self._taken.total() >= self._number or self._taken[who] >= self._each:
                return False
            self._taken[who] += 1
            return True

    def give_back(self, who: str) -> None:
        with self._lock:
            self._taken[who] -= 1
            self._taken += Counter()  # drops who has none


def speaks(render_error: Any) -> Dialect:
    """These addresses answer errors with their real status, unlike those beside them."""
    return Dialect(
        name="events", owns=lambda path: OWN.match(path) is not None, render_error=render_error
    )


def create_blueprint(ctx: Context) -> Blueprint:
    """The address, and the places of everybody who listens."""
    blueprint = Blueprint("events", __name__)
    places = Places(max(1, ctx.settings.api_threads // 2))

    def listen(job_id: str) -> Response:
        return _listen(job_id, places)

    blueprint.add_url_rule(PATH, "listen", listen, methods=["GET"])
    return blueprint


def _listen(job: str, places: Places) -> Response:
    ctx = context()
    caller = g.caller = _caller(ctx)
    require(caller, Role.VIEWER)
    job_id = _number("job_id", job)
    pulse = job_pulse(ctx, job_id)
    require(caller, Role.VIEWER, pulse.business_ids)
    asked = _after()
    after = min(asked, pulse.last_seq)
    if asked and pulse.is_over and after == pulse.last_seq:
        return Response(status=204)  # tells a browser not to come again
    who = f"{caller.kind} {caller.name}"
    if not places.take(who):
        return _no_place()
    response = Response(_stream(ctx, job_id, after), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(partial(places.give_back, who))
    return response


def _caller(ctx: Context) -> Caller:
    """By any of the ways the other addresses know."""
    if request.headers.get("Authorization") or request.cookies.get(COOKIE):
        return find_caller(ctx)
    if request.headers.get(HEADER) or request.args.get("bk_app_code"):
        return identify(ctx, parameters())
    return find_caller(ctx)


def _after() -> int:
    """The number of the last event the caller has; 0 is none."""
    text = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
    return _number("Last-Event-ID", text)


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > MAX_SEQ:
        raise InvalidRequest(f"{name} must be a number, not {text!r}.", field=name, value=text)
    return int(text)


def _no_place() -> Response:
    message = f"Too many event streams are open; retry in {RETRY_AFTER} seconds."
    response = jsonify({"status": 503, "message": message})
    response.status_code = 503
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _stream(ctx: Context, job_id: int, after: int) -> Iterator[str]:
    """Everything after that number, as it happens, until the job is over and all of it is said."""
    yield f"retry: {RECONNECT}\n\n"
    spoke = time.monotonic()
    while not closing.is_set():
        pulse = job_pulse(ctx, job_id)
        for event in events_after(ctx, job_id, after, pulse.last_seq):
            yield _gap(event) if isinstance(event, Gap) else _event(event)
            spoke = time.monotonic()
        after = max(after, pulse.last_seq)
        if pulse.is_over:
            yield _message("end", {"status": pulse.status, "last": after})
            return
        if time.monotonic() - spoke >= HEARTBEAT:
            yield ": still here\n\n"
            spoke = time.monotonic()
        closing.wait(LOOK)


def _event(event: EventView) -> str:
    said = {
        "seq": event.seq,
        "kind": event.kind,
        "at": event.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "host_id": event.host_id,
        "run_id": event.run_id,
        "data": event.data,
    }
    return _message(event.kind, said, event.seq)


def _gap(gap: Gap) -> str:
    return _message("gap", {"missing": [gap.first, gap.last]}, gap.last)


def _message(kind: str, data: dict[str, Any], seq: int | None = None) -> str:
    number = "" if seq is None else f"id: {seq}\n"
    return f"{number}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
