"""What is sealed stays sealed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import LargeBinary, select
from sqlalchemy.orm import Session

from app.access.access_keys import create_access_key
from app.access.credentials import NewCredential, store_credentials, usable_logins
from app.access.rotation import SEALED, rotate
from app.access.standing import ensure_zone_key, standing_private_keys
from app.access.users import create_user
from app.access.vault import KeyMissing, SealBroken, Vault, VaultError
from app.access.wire_keys import ensure_wire_key
from app.models import access
from app.models.access import AccessKey, WireKey
from app.models.base import Base, now


@given(plain=st.binary(), aad=st.text(st.characters(exclude_categories=["Cs"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_sealed_opens_for_its_purpose_only(vault: Vault, plain: bytes, aad: str) -> None:
    blob = vault.seal(plain, aad)
    assert vault.open(blob, aad) == plain
    with pytest.raises(SealBroken):
        vault.open(blob, aad + "x")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_changed_byte_goes_unnoticed(vault: Vault, data: st.DataObject) -> None:
    blob = bytearray(vault.seal(b"swordfish", "credential:1"))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VaultError):
        vault.open(bytes(blob), "credential:1")


def test_the_same_secret_never_looks_the_same_twice(vault: Vault) -> None:
    assert vault.seal(b"swordfish", "a") != vault.seal(b"swordfish", "a")


def test_the_key_file_is_private(vault: Vault) -> None:
    assert vault.key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in vault.key_file.parent.iterdir()] == ["keys"]


def test_a_key_file_open_to_others_is_refused(vault: Vault) -> None:
    vault.key_file.chmod(0o640)
    with pytest.raises(VaultError, match="chmod 600"):
        Vault(vault.key_file)


def test_a_damaged_key_file_is_refused_without_showing_it(vault: Vault) -> None:
    line = vault.key_file.read_text().splitlines()[-1]
    key_id, key = line.split()
    vault.key_file.write_text(f"{key_id} {key[:-6]}AAAAA=\n")
    with pytest.raises(VaultError, match="damaged") as refused:
        Vault(vault.key_file)
    assert key[:20] not in repr(refused.getrepr(style="long", showlocals=False))


def test_a_lost_key_is_named_and_never_replaced_in_silence(tmp_path: Path, vault: Vault) -> None:
    blob = vault.seal(b"swordfish", "credential:1")
    other = Vault(tmp_path / "elsewhere" / "keys")
    with pytest.raises(KeyMissing, match=rf"{blob[1:9].hex()}.*restore the key file"):
        other.open(blob, "credential:1")
    vault.key_file.unlink()
    with pytest.raises(VaultError, match="restore it"):
        vault.seal(b"more", "credential:2")


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.access.vault import Vault;"
        "print(Vault(Path(sys.argv[1])).seal(b'swordfish', 'a').hex())"
    )
    folder = tmp_path / "new"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "keys")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    blobs = [process.communicate(timeout=60)[0].strip() for process in started]
    vault = Vault(folder / "keys")
    assert {vault.open(bytes.fromhex(blob), "a") for blob in blobs} == {b"swordfish"}
    assert len({blob[2:18] for blob in blobs}) == 1


def test_a_new_key_seals_at_once_in_every_process_and_the_old_ones_open(vault: Vault) -> None:
    other = Vault(vault.key_file)
    old = other.seal(b"swordfish", "a")
    vault.add_key()
    new = other.seal(b"swordfish", "a")
    assert old[1:9] != new[1:9]
    assert vault.open(old, "a") == vault.open(new, "a") == b"swordfish"
    assert vault.is_newest(new)
    assert not vault.is_newest(old)


def test_rotation_leaves_nothing_under_the_old_key(session: Session, vault: Vault) -> None:
    at = now()
    logins = [
        NewCredential(
            host_id=n, kind="password", account="root", port=22, secret=f"pw-{n}", retention=9
        )
        for n in range(1200)
    ]
    store_credentials(session, vault, logins, at)
    create_user(session, "ann", "correct horse")
    create_access_key(session, vault, "ann")
    ensure_wire_key(session, vault)
    ensure_zone_key(session, vault, 0)
    private = standing_private_keys(session, vault, {0})[0]

    assert rotate(session, vault) == 1203

    lines = vault.key_file.read_text().splitlines()
    vault.key_file.write_text(lines[-1] + "\n")  # the old key is gone for good
    alone = Vault(vault.key_file)
    found = usable_logins(session, alone, range(1200), at)
    assert [found[n].password for n in range(1200)] == [f"pw-{n}" for n in range(1200)]
    assert standing_private_keys(session, alone, {0})[0] == private
    for row in (*session.scalars(select(WireKey)), *session.scalars(select(AccessKey))):
        secret = row.private_key if isinstance(row, WireKey) else row.secret_key
        assert alone.open(secret, row.purpose)


def test_rotation_knows_every_sealed_column() -> None:
    binary = {
        (column.table.name, column.name)
        for row in vars(access).values()
        if isinstance(row, type) and issubclass(row, Base) and row is not Base
        for column in row.__table__.columns
        if isinstance(column.type, LargeBinary)
    }
    assert binary == {(column.class_.__tablename__, column.key) for column in SEALED}


def test_sealing_ten_thousand_is_no_work(vault: Vault) -> None:
    started = time.process_time()
    for number in range(10_000):
        vault.seal(b"a password of a host", f"credential:{number}:password:22:root")
    # the wish is 0.2 s; this only catches a key derivation per seal or the like
    assert time.process_time() - started < 2
