"""hostler app: the programs that may call us."""

import click

from app.access import apps
from app.access.caller import Role
from app.cli.here import open_here
from app.models.base import reading, transaction


@click.group()
def app() -> None:
    """Programs that call the REST API."""


@app.command()
@click.argument("code")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.OPERATOR.value,
    show_default=True,
)
@click.option("--business", "businesses", type=int, multiple=True, help="Only these; default: all.")
def add(code: str, role: str, businesses: tuple[int, ...]) -> None:
    """Add a program; its secret is shown this once."""
    with transaction(open_here().engine) as session:
        secret = apps.create_app(session, code, role, businesses or None)
    click.echo(secret)
    click.echo("This is its secret; it is not kept here in clear and not shown again.", err=True)


@app.command("list")
def list_() -> None:
    """The programs there are."""
    with reading(open_here().engine) as session:
        for row in apps.list_apps(session):
            scope = "all" if row.businesses is None else ",".join(map(str, row.businesses))
            state = "" if row.is_active else "\tclosed"
            click.echo(f"{row.code}\t{row.role}\tbusinesses: {scope}{state}")


@app.command()
@click.argument("code")
def remove(code: str) -> None:
    """Remove a program; its calls are refused from now on."""
    with transaction(open_here().engine) as session:
        apps.remove_app(session, code)
    click.echo(f"removed {code}")
