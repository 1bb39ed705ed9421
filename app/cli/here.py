"""This machine's installation, for commands that work on it directly."""

import click

from app.jobs.context import Context, open_context
from app.settings import Settings


def open_here() -> Context:
    """The installation the settings name; it must have been started once."""
    settings = Settings.from_env()
    if not settings.database_url and not (settings.data_dir / "hostler.sqlite3").exists():
        raise click.ClickException(
            f"There is no installation in {settings.data_dir}; start one with `hostler up`, "
            "or name its folder by HOSTLER_DATA_DIR."
        )
    return open_context(settings)
