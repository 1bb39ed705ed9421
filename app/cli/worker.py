"""hostler worker: take runs from the queue and execute them."""

import click

from app.jobs.context import open_context
from app.log import configure_logging
from app.private import private_folder
from app.settings import Settings
from app.worker import run_worker


@click.command()
def worker() -> None:
    """Execute runs, one at a time, until stopped."""
    settings = Settings.from_env()
    configure_logging(settings.log_level)
    private_folder(settings.run_folder, "HOSTLER_RUN_DIR")
    run_worker(open_context(settings))
