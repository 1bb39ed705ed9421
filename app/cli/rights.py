"""What a program or a person may do, as the command line asks for it and shows it."""

from collections.abc import Callable
from typing import Any

import click

from app.access.caller import Role
from app.models.access import App, User

Command = Callable[..., Any]

ROLES = click.Choice([role.value for role in Role])


def granting(role: Role) -> Callable[[Command], Command]:
    """The options of a command that adds somebody."""

    def add_options(command: Command) -> Command:
        command = click.option(
            "--business", "businesses", type=int, multiple=True, help="Only these; default: all."
        )(command)
        return click.option("--role", type=ROLES, default=role.value, show_default=True)(command)

    return add_options


def changing(command: Command) -> Command:
    """The options of a command that changes somebody; what is not named stays."""
    for option in (
        click.option("--open/--closed", "is_active", default=None, help="Let in, or keep out."),
        click.option("--all-businesses", is_flag=True, help="All businesses, known and new."),
        click.option("--business", "businesses", type=int, multiple=True, help="Only these."),
        click.option("--role", type=ROLES),
    ):
        command = option(command)
    return command


def shown(name: str, row: App | User) -> str:
    """A line about somebody, its fields apart by tabs."""
    scope = "all" if row.businesses is None else ",".join(map(str, row.businesses))
    state = "" if row.is_active else "\tclosed"
    return f"{name}\t{row.role}\tbusinesses: {scope}{state}"
