"""hostler credential: what is sealed at rest."""

import click

from app.access.rotation import rotate as rotate_keys
from app.cli.here import open_here
from app.models.base import transaction


@click.group()
def credential() -> None:
    """Logins and keys at rest."""


@credential.command()
def rotate() -> None:
    """Make a new key and seal everything again with it."""
    ctx = open_here()
    with transaction(ctx.engine) as session:
        count = rotate_keys(session, ctx.vault)
    click.echo(f"{count} values are sealed with a new key; keep a copy of {ctx.settings.key_file}")
