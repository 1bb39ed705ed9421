"""One Idempotency-Key is one deed: with its answer, or not at all."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select

from app.domain.commands import Idempotency, SubmitJob
from app.domain.errors import Conflict
from app.jobs.context import Context
from app.jobs.once import do_once
from app.jobs.submit import submit_job
from app.models.base import reading
from app.models.work import IdempotentAnswer, Job, Run
from tests.jobs.conftest import a_host

ASKED = Idempotency(owner="app flows", key="k1", fingerprint="f")


def start(ctx: Context) -> dict[str, Any]:
    command = SubmitJob(job_type="INSTALL_AGENT", hosts=(a_host(1),), created_by="alice")
    return {"job_id": submit_job(ctx, command).job_id}


def test_the_same_key_starts_one_job_which_is_then_offered_to_the_workers(ctx: Context) -> None:
    assert do_once(ctx, ASKED, start) == ({"job_id": 1}, False)
    assert do_once(ctx, ASKED, start) == ({"job_id": 1}, True)

    assert _count(ctx, Job) == 1
    assert ctx.queue.rq.get_job_ids() == [ctx.queue.rq_name(1)]


def test_a_key_is_for_one_request(ctx: Context) -> None:
    do_once(ctx, ASKED, start)
    other = Idempotency(owner="app flows", key="k1", fingerprint="g")

    with pytest.raises(Conflict, match="was used for another request"):
        do_once(ctx, other, start)

    assert _count(ctx, Job) == 1


def test_what_breaks_before_its_answer_is_kept_has_not_happened(ctx: Context) -> None:
    def start_and_break(whole: Context) -> dict[str, Any]:
        start(whole)
        raise MemoryError

    with pytest.raises(MemoryError):
        do_once(ctx, ASKED, start_and_break)

    assert _count(ctx, Job) == _count(ctx, Run) == _count(ctx, IdempotentAnswer) == 0
    assert ctx.queue.rq.get_job_ids() == []
    assert do_once(ctx, ASKED, start) == ({"job_id": 1}, False)


def test_a_part_of_a_deed_may_be_refused_without_the_others(ctx: Context) -> None:
    def start_twice(whole: Context) -> dict[str, Any]:
        with pytest.raises(Conflict):
            submit_job(whole, SubmitJob(job_type="RELOAD_AGENT", hosts=(a_host(2),), created_by=""))
        return start(whole)

    do_once(ctx, ASKED, start_twice)

    assert _count(ctx, Job) == 1


def test_of_many_at_the_same_moment_one_acts_and_all_hear_the_same(ctx: Context) -> None:
    many = 6
    at_once = Barrier(many)

    def ask(_number: int) -> tuple[Any, bool]:
        at_once.wait()
        return do_once(ctx, ASKED, start)

    with ThreadPoolExecutor(many) as pool:
        heard = list(pool.map(ask, range(many)))

    assert [answer for answer, _ in heard] == [{"job_id": 1}] * many
    assert sorted(repeated for _, repeated in heard) == [False] + [True] * (many - 1)
    assert _count(ctx, Job) == 1


def _count(ctx: Context, table: type) -> int:
    with reading(ctx.engine) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0
