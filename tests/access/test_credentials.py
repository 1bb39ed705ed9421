"""Logins last as long as was agreed, and a host is entered by the right one."""

import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.access.credentials import (
    Asker,
    LoginChoice,
    NewCredential,
    Place,
    StandingLogin,
    expiry,
    forget_credentials,
    login_facts,
    mark_refused,
    move_logins,
    store_credentials,
    usable_logins,
    wipe_after_job,
    wipe_expired,
)
from app.access.standing import standing_private_keys, standing_public_key
from app.access.vault import SealBroken, Vault
from app.domain.errors import InvalidRequest
from app.models.access import Credential
from app.models.base import now

NOW = now()
DAY = timedelta(days=1)
LATER = timedelta(seconds=1)


def login(host_id: int, secret: str = "swordfish", **more: object) -> NewCredential:
    values = {"kind": "password", "account": "root", "port": 22, **more}
    return NewCredential(host_id=host_id, secret=secret, **values)  # type: ignore[arg-type]


@pytest.fixture
def store(session: Session, vault: Vault) -> Callable[..., None]:
    return lambda *rows, at=NOW: store_credentials(session, vault, rows, at)


Store = Callable[..., None]


def test_a_login_comes_back_as_it_was_sent(session: Session, vault: Vault, store: Store) -> None:
    store(login(1), login(2, "KEY\nLINES", kind="key", account="ops", port=2222))
    found = usable_logins(session, vault, [1, 2, 3], NOW)
    assert found.keys() == {1, 2}
    assert (found[1].account, found[1].password, found[1].private_key) == (
        "root",
        "swordfish",
        None,
    )
    assert (found[2].password, found[2].private_key, found[2].port) == (None, "KEY\nLINES", 2222)
    assert not found[1].is_standing
    assert "swordfish" not in repr(found)
    assert "swordfish" not in repr(login(1))


@pytest.mark.parametrize(("retention", "days"), [(None, 1), (1, 1), (7, 7), (365, 365)])
def test_retention_is_real_days(
    session: Session, vault: Vault, store: Store, retention: int | None, days: int
) -> None:
    store(login(1, retention=retention, job_id=5))
    end = NOW + days * DAY
    assert usable_logins(session, vault, [1], end - LATER)
    assert not usable_logins(session, vault, [1], end)
    assert wipe_expired(session, end - LATER) == 0
    assert wipe_expired(session, end) == 1
    assert wipe_expired(session, end) == 0


def test_retention_zero_ends_with_the_job(session: Session, vault: Vault, store: Store) -> None:
    store(login(1, retention=0, job_id=5), login(2, job_id=5))
    assert wipe_expired(session, NOW + LATER, needed={1, 2}) == 0
    assert usable_logins(session, vault, [1], NOW + 9 * DAY)
    assert wipe_after_job(session, [1, 2], NOW + LATER) == 1
    assert usable_logins(session, vault, [1, 2], NOW + LATER).keys() == {2}


def test_retention_zero_without_a_job_lasts_a_day_at_most(
    session: Session, vault: Vault, store: Store
) -> None:
    store(login(1, retention=0))
    assert wipe_expired(session, NOW + LATER) == 0
    assert wipe_expired(session, NOW + DAY) == 1


def test_a_job_that_ended_unseen_loses_its_login_at_the_next_sweep(
    session: Session, store: Store
) -> None:
    store(login(1, retention=0, job_id=5))
    assert wipe_expired(session, NOW + LATER) == 1


@pytest.mark.parametrize("retention", [-1, -1000, 10**9])
def test_retention_out_of_range_is_refused_and_nothing_is_stored(
    session: Session, store: Store, retention: int
) -> None:
    with pytest.raises(InvalidRequest, match="retention"):
        store(login(1), login(2, retention=retention))
    assert session.scalars(select(Credential)).all() == []
    with pytest.raises(InvalidRequest):
        expiry(retention, NOW)


def test_a_secret_that_is_no_text_is_refused_without_showing_it(store: Store) -> None:
    with pytest.raises(InvalidRequest) as refused:
        store(login(1, "swordfish\ud800"))
    assert "swordfish" not in refused.value.message


def test_wiped_means_the_secret_is_gone_and_the_facts_stay(
    session: Session, vault: Vault, store: Store
) -> None:
    store(login(1))
    assert login_facts(session, [1, 2], NOW)[1].is_usable
    wipe_expired(session, NOW + DAY)
    row = session.scalars(select(Credential)).one()
    assert row.secret is None
    facts = login_facts(session, [1, 2], NOW + DAY)
    assert facts.keys() == {1}
    assert (facts[1].account, facts[1].is_usable) == ("root", False)


def test_what_an_unfinished_job_needs_is_neither_wiped_nor_refused(
    session: Session, vault: Vault, store: Store
) -> None:
    store(login(1), login(2))
    late = NOW + 3 * DAY
    asked: list[set[int]] = []

    def needed(hosts: set[int]) -> set[int]:
        asked.append(hosts)
        return hosts & {1}

    assert wipe_expired(session, late, needed) == 1
    assert asked == [{1, 2}]
    assert usable_logins(session, vault, [1, 2], late) == {}
    assert usable_logins(session, vault, [1, 2], late, needed={1, 2}).keys() == {1}


def test_the_newest_login_wins_and_older_ones_stay_untouched(
    session: Session, vault: Vault, store: Store
) -> None:
    store(login(1, "old", retention=30))
    store(login(1, "new"), at=NOW + LATER)
    assert usable_logins(session, vault, [1], NOW + LATER)[1].password == "new"
    assert usable_logins(session, vault, [1], NOW + 2 * DAY)[1].password == "old"


def test_standing_access_serves_hosts_without_a_login(
    session: Session, vault: Vault, store: Store
) -> None:
    public = standing_public_key(session, vault, 0)
    store(login(1), login(2))
    standing = {n: StandingLogin(zone_id=0, account="ops") for n in (1, 2, 3)}
    standing[4] = StandingLogin(zone_id=9, account="ops")  # a zone without a pair
    found = usable_logins(session, vault, [1, 2, 3, 4, 5], NOW, standing=standing)
    assert found.keys() == {1, 2, 3}
    assert not found[1].is_standing
    assert found[3] == LoginChoice(
        account="ops", private_key=standing_private_keys(session, vault, {0})[0], is_standing=True
    )
    after = usable_logins(session, vault, [1, 2], NOW + DAY, standing=standing, needed=[1])
    assert after[1].is_standing  # an expired login steps back behind a key that works
    assert public.startswith("ssh-ed25519 ")
    assert "PRIVATE KEY" in (found[3].private_key or "")


def test_a_login_that_was_followed_by_another_steps_back_behind_a_key_that_works(
    session: Session, vault: Vault, store: Store
) -> None:
    standing_public_key(session, vault, 0)
    store(login(1, "wrong", retention=30), login(2, "old", retention=30))
    store(login(1, "right", retention=0, job_id=5), at=NOW + LATER)
    standing = {1: StandingLogin(zone_id=0, account="ops")}
    assert usable_logins(session, vault, [1], NOW + LATER, standing=standing)[1].password == "right"

    wipe_after_job(session, [1], NOW + LATER)

    found = usable_logins(session, vault, [1, 2], NOW + LATER, standing=standing)
    assert found[1].is_standing
    assert found[2].password == "old"
    assert usable_logins(session, vault, [1], NOW + LATER)[1].password == "wrong"


def test_what_another_job_brings_later_is_not_for_a_job_that_waits(
    session: Session, vault: Vault, store: Store
) -> None:
    standing_public_key(session, vault, 0)
    store(login(1, "before", job_id=1), login(2, "before", job_id=1))
    store(login(1, "own", job_id=2), at=NOW + LATER)
    store(login(1, "later", job_id=3), login(2, "later", job_id=3), at=NOW + 2 * LATER)
    store(login(3, "later", job_id=3), login(4, "later", job_id=3), at=NOW + 2 * LATER)
    waits = Asker(job_id=2, since=NOW + LATER)
    standing = {4: StandingLogin(zone_id=0, account="root")}
    at = NOW + DAY - LATER

    found = usable_logins(session, vault, [1, 2, 3, 4], at, standing=standing, asker=waits)

    assert (found[1].password, found[2].password) == ("own", "before")
    assert found[3].password == "later"  # better than none
    assert found[4].is_standing
    store(login(1, "edited"), at=at)
    assert usable_logins(session, vault, [1], at, asker=waits)[1].password == "edited"


def test_a_login_the_host_refused_is_the_last_that_is_tried(
    session: Session, vault: Vault, store: Store
) -> None:
    standing_public_key(session, vault, 0)
    store(login(1, "old"), login(2, "only"))
    store(login(1, "wrong"), login(3, "wrong"), at=NOW + LATER)
    standing = {3: StandingLogin(zone_id=0, account="root")}
    newest = usable_logins(session, vault, [1, 2, 3], NOW + LATER, standing=standing)
    assert [newest[n].password for n in (1, 2, 3)] == ["wrong", "only", "wrong"]

    mark_refused(session, [choice.credential_id or 0 for choice in newest.values()], NOW + LATER)

    found = usable_logins(session, vault, [1, 2, 3], NOW + LATER, standing=standing)
    assert (found[1].password, found[2].password) == ("old", "only")
    assert found[3].is_standing


def test_a_login_for_another_account_keeps_its_secret_its_place_and_its_end(
    session: Session, vault: Vault, store: Store
) -> None:
    store(login(1, retention=7), login(2, "KEY", kind="key", retention=0, job_id=5), login(3))
    places = {1: Place(account="admin"), 2: Place(account="ops"), 3: Place(account="root")}

    assert move_logins(session, vault, places, NOW + DAY - LATER) == 2

    found = usable_logins(session, vault, [1, 2, 3], NOW + DAY - LATER)
    assert (found[1].account, found[1].port, found[1].password) == ("admin", 22, "swordfish")
    assert (found[2].account, found[2].port, found[2].private_key) == ("ops", 22, "KEY")
    assert wipe_after_job(session, [1, 2, 3], NOW + DAY) == 2  # as it was sent, and as it moved
    assert usable_logins(session, vault, [1], NOW + 7 * DAY - LATER)[1].account == "admin"
    assert not usable_logins(session, vault, [1, 2], NOW + 7 * DAY)


def test_where_our_own_key_is_used_no_older_login_moves_before_it(
    session: Session, vault: Vault, store: Store
) -> None:
    standing_public_key(session, vault, 0)
    store(login(1, "wrong", retention=30), login(2, "old", retention=30))
    store(login(1, "right"), login(2, "new"), at=NOW + LATER)
    standing = {1: StandingLogin(zone_id=0, account="root")}
    places = {host_id: Place(account="admin") for host_id in (1, 2, 3)}

    assert move_logins(session, vault, places, NOW + 2 * DAY, standing=standing) == 1

    found = usable_logins(session, vault, [1, 2], NOW + 2 * DAY, standing=standing)
    assert found[1].is_standing
    assert (found[2].password, found[2].account) == ("old", "admin")


def test_zones_have_keys_of_their_own_and_keep_them(session: Session, vault: Vault) -> None:
    first = standing_public_key(session, vault, 1)
    assert standing_public_key(session, vault, 1) == first
    assert standing_public_key(session, vault, 2).split()[1] != first.split()[1]


def test_ssh_keygen_reads_the_standing_key(session: Session, vault: Vault, tmp_path: Path) -> None:
    public = standing_public_key(session, vault, 7)
    file = tmp_path / "key"
    file.write_text(standing_private_keys(session, vault, {7})[7])
    file.chmod(0o600)
    shown = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[:2] == public.split()[:2]


def test_a_login_moved_to_another_host_does_not_open(
    session: Session, vault: Vault, store: Store
) -> None:
    store(login(1))
    session.scalars(select(Credential)).one().host_id = 2
    session.flush()
    with pytest.raises(SealBroken):
        usable_logins(session, vault, [2], NOW)


def test_removed_hosts_are_forgotten(session: Session, store: Store) -> None:
    store(login(1), login(2))
    forget_credentials(session, [1])
    assert login_facts(session, [1, 2], NOW).keys() == {2}


def test_ten_thousand_logins_go_in_and_come_out_together(
    session: Session, vault: Vault, store: Store
) -> None:
    started = time.process_time()
    store(*(login(n, f"pw-{n}") for n in range(10_000)))
    found = usable_logins(session, vault, range(10_000), NOW)
    assert wipe_expired(session, NOW + DAY, needed=range(5_000)) == 5_000
    # the wish is 1 s; this only catches a statement per host
    assert time.process_time() - started < 6
    assert found[9_999].password == "pw-9999"


def test_no_secret_reaches_the_database_file(
    session: Session, store: Store, database_file: Path
) -> None:
    store(login(1, "canary-7f3a9c"))
    session.commit()
    assert database_file.stat().st_size
    for file in database_file.parent.glob("hostler.db*"):
        assert b"canary-7f3a9c" not in file.read_bytes()
