"""Do a thing once for one Idempotency-Key, and answer its repetitions alike."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.domain.commands import Idempotency
from app.domain.errors import Conflict
from app.jobs.context import Context
from app.models.base import again_on_deadlock, transaction
from app.models.counter import take_turn
from app.models.work import IdempotentAnswer
from app.queue import WorkQueue

Answer = Mapping[str, Any]


@again_on_deadlock
def do_once(
    ctx: Context, asked: Idempotency, deed: Callable[[Context], Answer]
) -> tuple[Answer, bool]:
    """What the deed answers, and whether it had been done before.

    The deed gets a context of its own. All it does there is durable together with its answer, or
    none of it happened: what raises is not remembered. Raises Conflict for a key that was used for
    another request.
    """
    with _together(ctx) as whole, transaction(whole.engine) as session:
        # whoever sends the same key meanwhile waits here, and then finds our answer
        take_turn(session)
        if (known := _find(session, asked)) is not None:
            return known, True
        answer = deed(whole)
        session.add(
            IdempotentAnswer(
                owner=asked.owner,
                key=asked.key,
                fingerprint=asked.fingerprint,
                answer=dict(answer),
            )
        )
        return answer, False


@contextmanager
def _together(ctx: Context) -> Iterator[Context]:
    """A context in which use cases share one transaction; the queue hears of it afterwards."""
    told = _Later(ctx.queue.url)
    with ctx.engine.begin() as connection:
        yield replace(ctx, engine=cast(Engine, connection), queue=told)
    ctx.queue.send(told.run_ids)


class _Later(WorkQueue):
    """A queue that keeps what it is to send until the database has it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.run_ids: list[int] = []

    def send(self, run_ids: Iterable[int]) -> bool:
        self.run_ids.extend(run_ids)
        return True


def _find(session: Session, asked: Idempotency) -> Answer | None:
    row = session.get(IdempotentAnswer, (asked.owner, asked.key))
    if row is None:
        return None
    if row.fingerprint != asked.fingerprint:
        raise Conflict(
            f"Idempotency-Key {asked.key!r} was used for another request; choose a new key."
        )
    return row.answer
