"""What a run is given: no host of it takes the others down."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.access.vault import KeyMissing, Vault
from app.automation.inventory import write_inventory
from app.domain.commands import RetryJob
from app.domain.states import Cause
from app.jobs.context import Context
from app.jobs.execute import execute_run
from app.jobs.prepare import Prepared, prepare_run
from app.jobs.retry import retry_job
from app.jobs.settle import settle_run
from tests.api.given import submit
from tests.jobs.conftest import a_host, a_login, a_verdict, claim_next, parts_of, runs_of


def test_a_login_that_cannot_be_carried_leaves_its_host_out_and_no_other(
    ctx: Context, tmp_path: Path
) -> None:
    odd = replace(a_login(), account='DOMAIN\\"ops"')
    submit(ctx, [a_host(0), a_host(1, odd), a_host(2)])

    prepared = prepare_run(ctx, claim_next(ctx))

    assert prepared.play
    assert prepared.play.limit == {1, 3}
    assert prepared.without_login.keys() == {2}
    assert prepared.without_login[2].endswith('except " and \\; retry with another account')
    write_inventory(tmp_path, prepared.play.machines, prepared.play.shared)


def test_a_run_that_cannot_be_prepared_has_touched_nobody_and_says_why(
    ctx: Context, tmp_path: Path
) -> None:
    job_id = submit(ctx, [a_host(0), a_host(1)])
    (run,) = runs_of(ctx, job_id)

    with pytest.raises(KeyMissing):
        execute_run(replace(ctx, vault=Vault(tmp_path / "other keys")), run.id, "test:1:a")

    for part in parts_of(ctx, job_id):
        assert part.cause is Cause.NOT_STARTED
        assert part.reason.startswith("it was never reached: The key ")
        assert "restore the key file" in part.reason


def test_a_job_that_waits_keeps_the_login_it_was_sent_with(ctx: Context) -> None:
    submit(ctx, [a_host(0, a_login("the right one"))])
    submit(ctx, [a_host(0, a_login("another's mistake"))])

    assert _password(prepare_run(ctx, claim_next(ctx))) == "the right one"


def test_a_job_that_is_tried_again_takes_the_login_that_was_brought_meanwhile(
    ctx: Context,
) -> None:
    first = submit(ctx, [a_host(0, a_login("a mistake"))])
    settle_run(ctx, claim_next(ctx), a_verdict(failed={1: (Cause.AUTH, "wrong password")}))
    submit(ctx, [a_host(0, a_login("the right one"))])
    settle_run(ctx, claim_next(ctx), a_verdict(failed={1: (Cause.AUTH, "wrong password")}))

    retry_job(ctx, RetryJob(job_id=first, created_by="ada"))

    assert _password(prepare_run(ctx, claim_next(ctx))) == "the right one"


def _password(prepared: Prepared) -> str | None:
    assert prepared.play
    (machine,) = prepared.play.machines
    assert machine.login
    return machine.login.password
