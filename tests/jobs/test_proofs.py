"""Hosts that are stopped while their run goes on: cancelled is only what is proved stopped."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.access.redact import MARK, Redactor
from app.domain.states import Cause
from app.jobs.context import Context
from app.jobs.execute import Proofs
from app.jobs.prepare import prepare_run
from app.jobs.settle import NEVER_BEGUN, settle_run
from tests.api.given import submit
from tests.jobs.conftest import a_host, a_login, a_verdict, claim_next, parts_of

CUT_OFF = (Cause.CANCELLED, "Stopped on request.")  # what Ansible's end looks like there


def prove(ctx: Context, host_id: int) -> None:
    """Stop one host of the run that waits, ask it, and let the run end."""
    claim = claim_next(ctx)
    prepared = prepare_run(ctx, claim)
    assert prepared.play
    proofs = Proofs(ctx, claim, prepared.play, Redactor(prepared.secrets))
    proofs.begin({host_id})
    settle_run(
        ctx, claim, a_verdict(claim.parts.keys() - {host_id}, {host_id: CUT_OFF}), proofs.end()
    )


def test_a_host_nobody_could_ask_is_lost(ctx: Context) -> None:
    job_id = submit(ctx, [a_host(0), a_host(1)])
    nowhere = replace(ctx, settings=replace(ctx.settings, run_dir=Path("/dev/null")))

    prove(nowhere, 1)

    assert [part.cause for part in parts_of(ctx, job_id)] == [Cause.LOST, None]


def test_a_host_the_run_could_not_enter_needs_no_proof(ctx: Context) -> None:
    odd = replace(a_login(), account='DOMAIN\\"ops"')
    job_id = submit(ctx, [a_host(0), a_host(1, odd)])

    prove(ctx, 2)

    _, left_out = parts_of(ctx, job_id)
    assert (left_out.cause, left_out.reason) == (Cause.CANCELLED, NEVER_BEGUN)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is ours, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.slow
def test_what_a_host_answers_is_kept_without_its_secrets(ctx: Context, closed_port: int) -> None:
    login = replace(a_login("Connection refused"), port=closed_port)
    job_id = submit(ctx, [a_host(0, login, inner_ip="127.0.0.1")])

    prove(ctx, 1)

    (part,) = parts_of(ctx, job_id)
    assert part.cause is Cause.LOST
    assert f"port {closed_port}: {MARK}" in part.reason
