"""hostler app: the programs that may call us."""

from typing import Any

import click

from app.access import apps
from app.access.caller import Role, change_rights
from app.cli.here import open_here
from app.cli.rights import changing, granting, shown
from app.models.base import reading, transaction


@click.group()
def app() -> None:
    """Programs that call the REST API."""


@app.command()
@click.argument("code")
@granting(Role.OPERATOR)
def add(code: str, role: str, businesses: tuple[int, ...]) -> None:
    """Add a program; its secret is shown this once."""
    with transaction(open_here().engine) as session:
        secret = apps.create_app(session, code, role, businesses or None)
    _show_secret(secret)


def _show_secret(secret: str) -> None:
    click.echo(secret)
    click.echo("This is its secret; it is not kept here in clear and not shown again.", err=True)


@app.command()
@click.argument("code")
def secret(code: str) -> None:
    """Give a program another secret, shown this once; the old one ends at once."""
    with transaction(open_here().engine) as session:
        new = apps.renew_app_secret(session, code)
    _show_secret(new)


@app.command()
@click.argument("code")
@changing
def change(code: str, businesses: tuple[int, ...], **rights: Any) -> None:
    """Change what a program may do; what is not named stays."""
    with transaction(open_here().engine) as session:
        row = apps.find_app(session, code)
        change_rights(row, businesses=businesses or None, **rights)
        click.echo(shown(row.code, row))


@app.command("list")
def list_() -> None:
    """The programs there are."""
    with reading(open_here().engine) as session:
        for row in apps.list_apps(session):
            click.echo(shown(row.code, row))


@app.command()
@click.argument("code")
def remove(code: str) -> None:
    """Remove a program; its calls are refused from now on."""
    with transaction(open_here().engine) as session:
        apps.remove_app(session, code)
    click.echo(f"removed {code}")
