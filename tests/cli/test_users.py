"""People are added, listed, given another password and removed; no password is an argument."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.access.access_keys import create_access_key
from app.access.users import authenticate_user
from app.cli import main
from app.cli.first_start import prepare_database
from app.domain.errors import Unauthenticated
from app.jobs.context import open_context
from app.models.base import transaction
from app.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ctx = open_context(Settings(data_dir=tmp_path))
    prepare_database(ctx.engine)
    ctx.engine.dispose()
    return tmp_path


def hostler(folder: Path, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["--data-dir", str(folder), "user", *words], input=typed)


def test_a_person_can_be_added_and_sign_in(folder: Path) -> None:
    done = hostler(folder, "add", "vera", "--role", "viewer", typed="long enough\nlong enough\n")

    assert done.exit_code == 0, done.output
    assert "vera\tviewer\tbusinesses: all" in hostler(folder, "list").output
    ctx = open_context(Settings(data_dir=folder))
    assert authenticate_user(ctx.engine, "vera", "long enough", "127.0.0.1").name == "vera"
    ctx.engine.dispose()


def test_a_changed_password_is_the_only_one(folder: Path) -> None:
    hostler(folder, "add", "vera", typed="long enough\nlong enough\n")

    done = hostler(folder, "password", "vera", typed="another one\nanother one\n")

    assert done.exit_code == 0, done.output
    ctx = open_context(Settings(data_dir=folder))
    assert authenticate_user(ctx.engine, "vera", "another one", "127.0.0.1")
    with pytest.raises(Unauthenticated):
        authenticate_user(ctx.engine, "vera", "long enough", "127.0.0.1")
    ctx.engine.dispose()


def test_a_person_gets_other_rights_and_is_kept_out(folder: Path) -> None:
    hostler(folder, "add", "vera", typed="long enough\nlong enough\n")

    changed = hostler(folder, "change", "vera", "--role", "operator", "--business", "7")
    closed = hostler(folder, "change", "vera", "--closed")

    assert changed.output == "vera\toperator\tbusinesses: 7\n"
    assert closed.output == "vera\toperator\tbusinesses: 7\tclosed\n"
    ctx = open_context(Settings(data_dir=folder))
    with pytest.raises(Unauthenticated):
        authenticate_user(ctx.engine, "vera", "long enough", "127.0.0.1")
    ctx.engine.dispose()


def test_some_businesses_and_all_of_them_are_not_granted_at_once(folder: Path) -> None:
    hostler(folder, "add", "vera", "--business", "7", typed="long enough\nlong enough\n")

    refused = hostler(folder, "change", "vera", "--business", "8", "--all-businesses")

    assert refused.exit_code != 0
    assert "businesses: 7" in hostler(folder, "list").output


def test_a_removed_person_is_gone_and_an_unknown_one_is_told(folder: Path) -> None:
    hostler(folder, "add", "vera", typed="long enough\nlong enough\n")

    assert hostler(folder, "remove", "vera").exit_code == 0
    again = hostler(folder, "remove", "vera")

    assert again.exit_code == 1
    assert "vera" in again.output


def test_access_keys_are_listed_and_removed(folder: Path) -> None:
    hostler(folder, "add", "vera", typed="long enough\nlong enough\n")
    ctx = open_context(Settings(data_dir=folder))
    with transaction(ctx.engine) as session:
        kept, gone = (create_access_key(session, ctx.vault, "vera").access_key for _ in range(2))
    ctx.engine.dispose()

    removed = hostler(folder, "remove-key", gone)
    listed = hostler(folder, "keys", "vera")
    again = hostler(folder, "remove-key", gone)

    assert removed.output == f"removed {gone}\n"
    assert [line.split("\t")[0] for line in listed.output.splitlines()] == [kept]
    assert again.exit_code != 0
    assert f"There is no access key {gone}." in again.output
