"""What every test may use: lab hosts, and a note of whatever could not run here."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples for everybody, however long they take: what fails here has to fail again.
# Now and then look further: ./run test --hypothesis-profile=default
settings.load_profile("ci")

pytest_plugins = ["tests.lab.fixtures", "tests.lab.installation", "tests.postgres"]

LAB_FOLDERS = {"lab", "e2e", "chaos"}


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lives in a lab folder or asks for lab hosts is a lab test."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in LAB_FOLDERS or "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.lab)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the reasons for skipping where ./run test prints them at its end."""
    notes = os.environ.get("HOSTLER_TEST_NOTES")
    if notes is None:
        return
    with Path(notes).open("a") as file:
        for report in terminalreporter.stats.get("skipped", []):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            file.write(f"{reason}\n")
