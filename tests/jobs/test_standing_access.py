"""Whose the key on a host is: a rollback takes away only what its own task had brought."""

import pytest

from app.domain.catalogue import Effect
from app.jobs.outcome import apply_effect
from app.jobs.undo import undo_of
from app.models.fleet import Host
from app.models.work import Part, Target


def entered_host() -> Host:
    """A host that holds our key."""
    said = {"cpu_arch": "", "os_version": "", "hostname": ""}
    return Host(id=1, standing_account="root", standing_way="the way", **said)


@pytest.mark.parametrize("was_there", [True, False])
def test_a_rollback_keeps_a_key_that_was_there_before(was_there: bool) -> None:
    before = {"release": None, "standing_key": was_there}
    part = Part(job_type="INSTALL_AGENT", before=before)

    back = undo_of(part, Target(snapshot={}))

    assert back.keeps_standing_access is was_there
    host = Host(
        id=1,
        cpu_arch="",
        os_version="",
        hostname="",
        standing_account="root",
        standing_way="the way",
    )
    apply_effect(host, back.effect, {}, keeps_standing_access=back.keeps_standing_access)
    assert host.standing_account == ("root" if was_there else None)


@pytest.mark.parametrize("effect", [Effect.REMOVED, Effect.FORGOTTEN])
def test_an_uninstalled_or_forgotten_host_has_no_standing_access(effect: Effect) -> None:
    host = Host(
        id=1,
        cpu_arch="",
        os_version="",
        hostname="",
        standing_account="root",
        standing_way="the way",
    )

    apply_effect(host, effect, {})

    assert not host.has_standing_access
