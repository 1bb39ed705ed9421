"""docs/packages.md: its commands build packages that run, and it names what there is."""

import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.packages.build import known_debs
from app.packages.fetch_default import NotToBeHad, download_deb
from app.packages.manifest import FIELDS
from app.packages.templates import BUILT_IN
from tests.docs.readme import CHECKOUT, blocks, prose, rows, ticked
from tests.playbooks.host import Host

PAGE = CHECKOUT / "docs/packages.md"


def test_the_page_names_every_key_and_every_value() -> None:
    keys = {word for cell, _ in rows("The manifest", "Key", PAGE) for word in ticked(cell)}
    names = {w for cell, _ in rows("Values to fill in", "Name", PAGE) for w in ticked(cell)}

    assert keys == set(FIELDS)
    assert {f"${{{name}}}" for name in BUILT_IN} <= names


def test_the_page_names_every_known_deb() -> None:
    assert [word for word in ticked(prose(PAGE)) if word in known_debs()] == known_debs()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "root").mkdir()
    host = Host(tmp_path / "root")
    yield host
    host.clear()


def test_every_shell_block_is_run() -> None:
    notes = [(b.heading, b.note) for b in blocks(PAGE) if b.language == "sh"]

    assert notes == [
        ("From a folder", ""),
        ("From a Debian package", "apt"),
        ("From one Hostler does not know", "apt"),
    ]


def test_the_agent_of_the_page_is_built_and_runs(tmp_path: Path, host: Host) -> None:
    said = type_in("From a folder", tmp_path)
    assert said.splitlines()[-1] == "page_agent-1.10-x86_64.tar.gz"

    result = host.perform("install", package_file=str(tmp_path / said.splitlines()[-1]))

    assert result["cause"] is None, result["reason"]
    with urllib.request.urlopen(f"http://127.0.0.1:{host.port}/", timeout=10) as answer:
        assert answer.read() == b"A page, which cost 5 $"
    assert host.release == "1.10"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_debs_of_the_page_are_built_and_one_runs(tmp_path: Path, host: Host) -> None:
    try:
        download_deb("prometheus-pushgateway", tmp_path)
    except NotToBeHad as error:
        pytest.skip(f"the .deb examples: {error.message}")
    known = type_in("From a Debian package", tmp_path)
    assert known.splitlines()[-1].startswith("redis_exporter-")
    built = type_in("From one Hostler does not know", tmp_path)

    result = host.perform("install", package_file=str(tmp_path / built.splitlines()[-1]))

    assert result["cause"] is None, result["reason"]
    with urllib.request.urlopen(f"http://127.0.0.1:{host.port}/-/healthy", timeout=10) as answer:
        assert answer.status == 200


def type_in(heading: str, folder: Path) -> str:
    """Run the block under a heading in a folder that has `run`, as a reader does; what it said."""
    run = folder / "run"
    run.write_text(f'#!/bin/sh\nexec {shlex.quote(str(CHECKOUT / "run"))} "$@"\n')
    run.chmod(0o755)
    text = next(b.text for b in blocks(PAGE) if b.heading == heading and b.language == "sh")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()
