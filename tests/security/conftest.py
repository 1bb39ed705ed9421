"""A real installation, and stand-in hosts that may be given a Python of their own."""

import os
from collections.abc import Iterator

import pytest

from tests.api.conftest import call, client, prepared  # noqa: F401 - fixtures
from tests.jobs.conftest import (  # noqa: F401 - fixtures
    ctx,
    install,
    postgres_ctx,
    prepare,
    redis_socket,
)
from tests.lab.fallback import FallbackHost, FallbackLab, can_run_fallback
from tests.lab.installation import Installation
from tests.security.hostile import PYTHON

OWN = f"""\
#!/bin/sh
test -x "$HOSTLER_ROOT/python" && exec "$HOSTLER_ROOT/python" "$@"
exec {PYTHON} "$@"
"""


@pytest.fixture(scope="session")
def stand_ins() -> Iterator[FallbackLab]:
    """Plain sshds on loopback; a host's root folder may hold the Python it answers with."""
    if reason := can_run_fallback():
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with FallbackLab.up(6, f"security-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="session")
def attacked(
    stand_ins: FallbackLab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The installation that enters them."""
    python = tmp_path_factory.mktemp("python") / "python3"
    python.write_text(OWN)
    python.chmod(0o755)
    python.parent.chmod(0o755)
    here = Installation(workers=1, remote_python=python, standing_access=False)
    try:
        yield here.start()
    finally:
        here.throw_away()


@pytest.fixture
def hosts(stand_ins: FallbackLab) -> list[FallbackHost]:
    """The stand-ins, as good as new."""
    stand_ins.reset()
    return stand_ins.hosts
