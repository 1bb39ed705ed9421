"""What a run is given: no host of it takes the others down."""

from dataclasses import replace
from pathlib import Path

from app.automation.inventory import write_inventory
from app.jobs.context import Context
from app.jobs.prepare import prepare_run
from tests.api.given import submit
from tests.jobs.conftest import a_host, a_login, claim_next


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
