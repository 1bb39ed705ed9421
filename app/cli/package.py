"""hostler package: what can be installed on hosts."""

import tempfile
from pathlib import Path
from typing import Any

import click

from app.cli.here import open_here
from app.domain.errors import Unavailable
from app.jobs.context import Context
from app.models.base import reading, transaction
from app.models.package import Package
from app.packages.add import add_package
from app.packages.build import build_package
from app.packages.fetch_default import fetch_default_package
from app.packages.list import get_package, list_packages
from app.packages.prefer import prefer_package
from app.packages.remove import remove_package

AGENT = "agent"
EXISTING = click.Path(exists=True, path_type=Path)


@click.group()
def package() -> None:
    """Archives of agents, proxies and plugins."""


@package.command()
@click.argument("source", type=EXISTING)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", help="Instead of the manifest's.")
@click.option("--version", help="Instead of the manifest's.")
def build(source: Path, out: Path, **overrides: Any) -> None:
    """Build a package from a folder with a hostler-package.yaml, or from a .deb."""
    said = {name: value for name, value in overrides.items() if value is not None}
    out.mkdir(parents=True, exist_ok=True)
    click.echo(build_package(source, out, **said))


@package.command()
@click.argument("archive", type=EXISTING)
@click.option("--default", "is_default", is_flag=True, help="Prefer it even over newer ones.")
def add(archive: Path, is_default: bool) -> None:
    """Register a package; hosts can have it from now on."""
    click.echo(_line(_add(open_here(), archive, is_default)))


@package.command("list")
def list_() -> None:
    """The packages there are, the newest first."""
    with reading(open_here().engine) as session:
        for row in list_packages(session):
            click.echo(_line(row))


@package.command()
@click.argument("wanted", metavar="ID")
def remove(wanted: str) -> None:
    """Remove a package by its number or the beginning of its checksum."""
    with transaction(open_here().engine) as session:
        row = get_package(session, wanted)
        line = _line(row)
        remove_package(session, row)
    click.echo(f"removed {line}")


@package.command("add-default")
def add_default() -> None:
    """Register Prometheus node_exporter from the distribution, where there is no agent yet."""
    ctx = open_here()
    with reading(ctx.engine) as session:
        if list_packages(session, AGENT):
            return
    try:
        with tempfile.TemporaryDirectory(prefix="hostler-default-") as folder:
            row = _add(ctx, fetch_default_package(Path(folder)), is_default=False)
    except Unavailable as error:
        raise click.ClickException(f"There is no agent package. {error.message}") from error
    click.echo(f"agent package: {_line(row)}")


def _add(ctx: Context, archive: Path, is_default: bool) -> Package:
    with transaction(ctx.engine) as session:
        row = add_package(session, archive, "hostler")
        if is_default:
            prefer_package(session, row)
    return row


def _line(row: Package) -> str:
    default = "\tdefault" if row.is_default else ""
    return f"{row.id}\t{row.kind}\t{row.name}\t{row.version}\t{row.cpu}\t{row.sha256[:12]}{default}"
