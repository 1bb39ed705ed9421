"""A job of more hosts than a database lets a statement have parameters can still be operated."""

import sqlite3
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event, func, select

from app.domain.commands import RetryJob, RevokeJob
from app.domain.states import Cause, Status
from app.jobs.cancel import revoke_job
from app.jobs.context import Context
from app.jobs.retry import retry_job, retry_task
from app.jobs.rollback import roll_back_task
from app.jobs.settle import settle_run
from app.jobs.skip import skip_subtask
from app.models.base import reading
from app.models.work import Part, Target
from tests.api.given import submit
from tests.jobs.conftest import a_host, a_login, a_verdict, claim_next

MOST = 5100  # parameters; a list that is asked for in pieces has 5000 of them
HOSTS = MOST + 100

pytestmark = pytest.mark.slow


@pytest.fixture
def large(ctx: Context) -> Context:
    """A job on so many hosts, in a database that allows fewer parameters."""
    event.listen(ctx.engine, "connect", _limit)
    ctx.engine.dispose()
    login = a_login()
    submit(ctx, [a_host(number, login) for number in range(HOSTS)])
    return ctx


def _limit(connection: sqlite3.Connection, _record: Any) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, MOST)


def test_it_is_revoked_and_tried_again(large: Context) -> None:
    revoke_job(large, RevokeJob(job_id=1))
    assert _current(large) == {Status.FAILED: HOSTS}

    retry_job(large, RetryJob(job_id=1))
    assert _current(large) == {Status.PENDING: HOSTS}

    revoke_job(large, RevokeJob(job_id=1))
    retry_task(large, 2, "ada")
    assert _current(large) == {Status.PENDING: HOSTS}


def test_it_is_skipped_in_part_and_taken_back(large: Context) -> None:
    claim = claim_next(large)
    refused = dict.fromkeys(claim.parts, (Cause.AUTH, "wrong password"))
    settle_run(large, claim, a_verdict(failed=refused))
    revoke_job(large, RevokeJob(job_id=1))
    skip_subtask(large, 1, claim.subtask_id, "ada")

    roll_back_task(large, 1, "ada")

    with reading(large.engine) as session:
        causes = select(Part.cause, func.count()).group_by(Part.cause)
        assert dict(session.execute(causes).all()) == {Cause.ROLLED_BACK: HOSTS}


def _current(ctx: Context) -> Counter[Status]:
    with reading(ctx.engine) as session:
        query = select(Target.status, func.count()).where(Target.is_current)
        return Counter(dict(session.execute(query.group_by(Target.status)).all()))
