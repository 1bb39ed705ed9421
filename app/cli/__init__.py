"""What a person types: `hostler …`."""

import importlib
import io
import os
import sys
from pathlib import Path

import click

from app import __version__
from app.domain.errors import HostlerError

# read when named, so that one command does not wait for what another needs
COMMANDS = {
    "up": "app.cli.up:up",
    "worker": "app.cli.worker:worker",
    "keeper": "app.cli.keeper:keeper",
    "job": "app.cli.job:job",
    "package": "app.cli.package:package",
    "app": "app.cli.app:app",
    "user": "app.cli.user:user",
    "credential": "app.cli.credential:credential",
    "doctor": "app.cli.doctor:doctor",
}


class Commands(click.Group):
    """The commands above; what goes wrong is told in one sentence, without a trace."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except HostlerError as error:
            raise click.ClickException(describe(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hostler")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    help="The installation's folder; default: HOSTLER_DATA_DIR, else ./data.",
)
def main(data_dir: Path | None) -> None:
    """Agent, proxy and plugin jobs on fleets of hosts, with Ansible."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is no reason to fail
            stream.reconfigure(errors="replace")
    if data_dir:
        os.environ["HOSTLER_DATA_DIR"] = str(data_dir)  # settings are read from there alone


def describe(error: HostlerError) -> str:
    """The error's sentence, and what it says of single hosts."""
    hosts = error.details.get("hosts")
    rows = hosts.items() if isinstance(hosts, dict) else ()
    return "\n".join([error.message, *(f"  {label}: {reason}" for label, reason in rows)])
