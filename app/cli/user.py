"""hostler user: the people who sign in to the console and to OCP's task API."""

from typing import Any

import click

from app.access import access_keys, users
from app.access.caller import Role, change_rights
from app.cli.here import open_here
from app.cli.rights import changing, granting, shown
from app.models.base import reading, transaction


def ask() -> str:
    """A password, typed twice; never an argument, which others on this machine could see."""
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return typed


@click.group()
def user() -> None:
    """People who sign in with a name and a password."""


@user.command()
@click.argument("name")
@granting(Role.VIEWER)
def add(name: str, role: str, businesses: tuple[int, ...]) -> None:
    """Add a person; the password is asked for."""
    secret = ask()
    with transaction(open_here().engine) as session:
        users.create_user(session, name, secret, role, businesses or None)
    click.echo(f"added {name}")


@user.command()
@click.argument("name")
@changing
def change(name: str, businesses: tuple[int, ...], **rights: Any) -> None:
    """Change what a person may do; what is not named stays."""
    with transaction(open_here().engine) as session:
        row = users.find_user(session, name)
        change_rights(row, businesses=businesses or None, **rights)
        click.echo(shown(row.name, row))


@user.command("list")
def list_() -> None:
    """The people there are."""
    with reading(open_here().engine) as session:
        for row in users.list_users(session):
            click.echo(shown(row.name, row))


@user.command()
@click.argument("name")
def password(name: str) -> None:
    """Give somebody another password; open sessions of theirs end."""
    secret = ask()
    with transaction(open_here().engine) as session:
        users.change_password(session, name, secret)
    click.echo(f"changed the password of {name}")


@user.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a person; they cannot sign in from now on."""
    with transaction(open_here().engine) as session:
        users.remove_user(session, name)
    click.echo(f"removed {name}")


@user.command()
@click.argument("name")
def keys(name: str) -> None:
    """The access keys of a person, and when each was made."""
    with reading(open_here().engine) as session:
        for row in access_keys.list_access_keys(session, name):
            click.echo(f"{row.access_key}\t{row.created_at:%Y-%m-%d %H:%M}")


@user.command("remove-key")
@click.argument("access_key")
def remove_key(access_key: str) -> None:
    """Remove an access key; what it signs is refused from now on."""
    with transaction(open_here().engine) as session:
        access_keys.remove_access_key(session, access_key)
    click.echo(f"removed {access_key}")
