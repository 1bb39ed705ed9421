"""Hostler's key on a host: there after a success, as it was before after a failure."""

import os
from pathlib import Path

import pytest

from tests.packages.agents import EXITS
from tests.playbooks.conftest import Package
from tests.playbooks.host import Host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGhvc3RsZXJob3N0bGVyaG9zdGxlcmhvc3RsZXJob3N0 hostler"


@pytest.fixture
def keys(host: Host) -> Path:
    """The account's authorized keys, with somebody else's in it."""
    home = Path("/root") if os.geteuid() == 0 else Path.home()
    path = host.root / str(home).lstrip("/") / ".ssh/authorized_keys"
    path.parent.mkdir(parents=True)
    path.write_text("ssh-ed25519 AAAAsomebody else\n")
    return path


def test_a_failed_first_install_takes_the_key_back(
    host: Host, package: Package, keys: Path
) -> None:
    before = keys.read_text()

    result = host.perform("install", package_file=package("1.0", EXITS), standing_key=KEY)

    assert result["cause"] == "agent_exited"
    assert keys.read_text() == before
    assert result["before"]["standing_key"] is False
    assert result["after"]["standing_key"] is False
    assert "may not log in any more" in result["phases"][-1]["log"]


def test_a_failed_install_leaves_a_key_that_was_there(
    host: Host, package: Package, keys: Path
) -> None:
    assert host.perform("detect", standing_key=KEY)["standing_key"] == "authorised"
    brought = keys.read_text()

    result = host.perform("install", package_file=package("1.0", EXITS), standing_key=KEY)

    assert result["cause"] == "agent_exited"
    assert keys.read_text() == brought
    assert result["before"]["standing_key"] is True


def test_an_uninstall_takes_our_key_and_no_other(host: Host, package: Package, keys: Path) -> None:
    archive = package("1.0")
    assert host.perform("install", package_file=archive, standing_key=KEY)["cause"] is None
    brought = keys.read_text()

    result = host.perform("uninstall", standing_key=KEY)
    assert result["standing_key"] == "removed"
    assert "AAAAsomebody" in keys.read_text()
    assert keys.read_text() != brought


def test_without_a_usable_home_the_agent_is_installed_without_the_key(
    host: Host, package: Package
) -> None:
    home = Path("/root") if os.geteuid() == 0 else Path.home()
    place = host.root / str(home).lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("no folder")

    result = host.perform("install", package_file=package("1.0"), standing_key=KEY)

    assert result["cause"] is None, result["reason"]
    assert result["after"]["standing_key"] is False
    assert "later jobs need a login" in result["phases"][0]["log"]
