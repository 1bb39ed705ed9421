"""hostler keeper: one more keeper, for a machine that has workers but no API."""

import click

from app.jobs.context import open_context
from app.keeper import Keeper
from app.log import configure_logging
from app.settings import Settings


@click.command()
def keeper() -> None:
    """Do what is due until stopped; of all keepers the elected one works, the others wait."""
    settings = Settings.from_env()
    configure_logging(settings.log_level)
    Keeper(open_context(settings)).run()
