"""The log of a subtask: its attempts one after the other, in any pieces a reader likes."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.domain.states import Operation, RunStatus
from app.jobs.context import Context
from app.jobs.retention import FORGOTTEN
from app.models.base import reading
from app.models.fleet import Host, label_of
from app.models.work import LogChunk, Part, Run, StepRow, Subtask

FRAME = "#" * 12
BLOCK = 64 * 1024
SHOWN_HOSTS = 1000  # of work no worker did: what a log tells of


@dataclass(frozen=True, kw_only=True)
class LogSlice:
    """Some of a log; offsets count its bytes in UTF-8, no character is ever cut."""

    text: str
    offset: int
    next_offset: int
    size: int  # of the whole log so far


@dataclass(frozen=True)
class Piece:
    """A stretch of a log: words of ours, or what a run said."""

    start: int
    size: int
    words: bytes = b""
    run_id: int | None = None

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class LogOfAttempt:
    """One attempt, whole."""

    number: int
    content: bytes


def separator(operation: Operation, at: datetime) -> str:
    """The line before each attempt; clients split the text at exactly this shape."""
    return f"{FRAME}{{{operation.value.upper()}}}{{{_moment(at)}}}{FRAME}"


def read_log(
    ctx: Context,
    subtask_id: int,
    offset: int = 0,
    limit: int | None = None,
    tail: int | None = None,
) -> LogSlice:
    """The log of a subtask, all of it or some.

    Slices that follow each other join to the whole text, wherever a caller cuts it: an offset
    inside a character means the beginning of that character.
    """
    with reading(ctx.engine) as session:
        log = _Log(session, _pieces(session, subtask_id))
        if tail is not None:
            offset = log.start_of_tail(tail)
        start = log.boundary(min(offset, log.size))
        asked_end = log.size if limit is None else min(offset + limit, log.size)
        text = log.read(start, log.boundary(asked_end)).decode(errors="replace")
        # what was asked for, not what was sent: so a reader also gets past a long character
        following = max(asked_end, min(offset, log.size))
        return LogSlice(text=text, offset=start, next_offset=following, size=log.size)


def attempt_logs(ctx: Context, subtask_id: int) -> Iterator[LogOfAttempt]:
    """The whole log of each attempt of a subtask, for taking away."""
    with reading(ctx.engine) as session:
        for run in _runs(session, subtask_id):
            pieces = list(_attempt(run, 0))
            yield LogOfAttempt(run.attempt, _Log(session, pieces).whole())


class _Log:
    """The pieces of a log as one run of bytes."""

    def __init__(self, session: Session, pieces: Sequence[Piece]) -> None:
        self.session = session
        self.pieces = pieces
        self.size = pieces[-1].end if pieces else 0

    def whole(self) -> bytes:
        return self.read(0, self.size)

    def read(self, start: int, end: int) -> bytes:
        found = []
        for piece in self.pieces:
            low, high = max(start, piece.start), min(end, piece.end)
            if low < high:
                found.append(self._cut(piece, low - piece.start, high - piece.start))
        return b"".join(found)

    def _cut(self, piece: Piece, low: int, high: int) -> bytes:
        if piece.run_id is None:
            return piece.words[low:high]
        return _run_bytes(self.session, piece.run_id, low, high)

    def boundary(self, at: int) -> int:
        """The beginning of the character this byte belongs to."""
        before = self.read(max(0, at - 3), at + 1)
        if at >= self.size or not before:
            return at
        steps = 0
        while steps < 3 and steps < len(before) - 1 and before[-1 - steps] & 0xC0 == 0x80:
            steps += 1
        return at - steps

    def start_of_tail(self, lines: int) -> int:
        """Where the last so many lines begin."""
        end, wanted = self.size, lines + 1
        if end and self.read(end - 1, end) != b"\n":
            wanted -= 1  # the last line has not ended yet
        while end > 0:
            start = max(0, end - BLOCK)
            block = self.read(start, end)
            breaks = block.count(b"\n")
            if breaks >= wanted:
                at = len(block)
                for _ in range(wanted):
                    at = block.rindex(b"\n", 0, at)
                return start + at + 1
            wanted -= breaks
            end = start
        return 0


# --- The pieces of a subtask's log --------------------------------------------------------------


def _pieces(session: Session, subtask_id: int) -> list[Piece]:
    pieces: list[Piece] = []
    for run in _runs(session, subtask_id):
        pieces += _attempt(run, pieces[-1].end if pieces else 0)
    return pieces or list(_without_worker(session, subtask_id))


def _runs(session: Session, subtask_id: int) -> Sequence[Any]:
    has_chunks = exists().where(LogChunk.run_id == Run.id)
    query = (
        select(
            Run.id,
            Run.attempt,
            Run.operation,
            Run.status,
            Run.outcome,
            Run.created_at,
            Run.finished_at,
            Run.log_size,
            (Run.log_blob.is_not(None) | has_chunks).label("is_kept"),
        )
        .where(Run.subtask_id == subtask_id)
        .order_by(Run.attempt)
    )
    return session.execute(query).all()


def _attempt(run: Any, start: int) -> Iterator[Piece]:
    """One attempt: the separator, what it said, and how it ended.

    Nothing before the end of the text ever changes, so that readers may go on where they were.
    """
    line = separator(run.operation, run.created_at).encode() + b"\n"
    heading = _words(start, b"\n" + line if start else line)
    yield heading
    if run.log_size and not run.is_kept:
        said = _words(heading.end, f"{FORGOTTEN}\n".encode())
    else:
        said = Piece(heading.end, run.log_size, run_id=run.id)
    yield said
    if run.status is RunStatus.ENDED and run.finished_at:
        ending = f"{_moment(run.finished_at)} {run.outcome or 'ended'}\n".encode()
        yield _words(said.end, b"\n" + ending if said.size else ending)


def _words(start: int, words: bytes) -> Piece:
    return Piece(start, len(words), words)


def _without_worker(session: Session, subtask_id: int) -> Iterator[Piece]:
    """Work that was only recorded, or is done by people: what its steps say."""
    query = (
        select(Host.inner_ip, Host.inner_ipv6, Part.host_id, StepRow.key, StepRow.log)
        .join(Part, Part.id == StepRow.part_id)
        .outerjoin(Host, Host.id == Part.host_id)
        .where(Part.subtask_id == subtask_id)
        .order_by(Part.id, StepRow.index)
        .limit(SHOWN_HOSTS)
    )
    rows = session.execute(query).all()
    if not rows:
        return
    created = session.execute(
        select(Subtask.operation, Subtask.created_at).where(Subtask.id == subtask_id)
    ).one()
    lines = [separator(*created)]
    for row in rows:
        host = label_of(row.host_id, row.inner_ip, row.inner_ipv6)
        lines.append(f"[{host}] {row.key}: {row.log.strip()}")
    yield _words(0, ("\n".join(lines) + "\n").encode())


def _run_bytes(session: Session, run_id: int, low: int, high: int) -> bytes:
    """Some of what a run said: from its chunks while it runs, from one blob once it is settled."""
    found = _from_chunks(session, run_id, low, high)
    if len(found) == high - low:
        return found
    # settled since, or long ago
    blob = session.scalar(select(Run.log_blob).where(Run.id == run_id))
    return zlib.decompressobj().decompress(blob, high)[low:] if blob else found


def _from_chunks(session: Session, run_id: int, low: int, high: int) -> bytes:
    mine = LogChunk.run_id == run_id
    first = select(func.max(LogChunk.offset)).where(mine, LogChunk.offset <= low).scalar_subquery()
    query = (
        select(LogChunk.offset, LogChunk.content)
        .where(mine, LogChunk.offset >= first, LogChunk.offset < high)
        .order_by(LogChunk.offset)
    )
    rows = session.execute(query).all()
    if not rows:
        return b""
    skipped = low - rows[0].offset
    return b"".join(row.content for row in rows)[skipped : skipped + high - low]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
