"""Hosts and logins as a person types them."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

SSH_PORT = 22
DEFAULT_USER = "root"


@dataclass(frozen=True)
class Named:
    """A host as it was named; what was not said is None."""

    address: str
    user: str | None = None
    port: int | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The address as the wire wants it."""
        version = ipaddress.ip_address(self.address).version
        return {"inner_ip": self.address} if version == 4 else {"inner_ipv6": self.address}


class HostName(click.ParamType[Named]):
    """[user@]address[:port]; an IPv6 address with a port stands in brackets."""

    name = "[user@]address[:port]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Named:
        if isinstance(value, Named):
            return value
        user, _, rest = str(value).rpartition("@")
        try:
            address, port = _split_port(rest)
            return Named(as_typed(address), user or None, port)
        except ValueError:
            self.fail(f"{value!r} is not [user@]address[:port] with an IP address.", param, ctx)


def as_typed(address: str) -> str:
    """An address as a person writes it; ValueError where it is none."""
    return str(ipaddress.ip_address(address))


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, ""
    return address, _port(port) if port else None


def _port(text: str) -> int:
    if not 0 < (port := int(text)) < 65536:
        raise ValueError(text)
    return port


def login_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a login comes from: never from the command line itself, which others can read."""
    existing = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
    for option in (
        click.option("--password-file", type=existing, help="Holds the password; - is stdin."),
        click.option("--key-file", type=existing, help="Holds a private key."),
    ):
        command = option(command)
    return command


def read_login(password_file: Path | None, key_file: Path | None, ask: bool) -> dict[str, str]:
    """auth_type and the secret; empty when none is given and none is asked for."""
    if password_file and key_file:
        raise click.UsageError("Give --password-file or --key-file, not both.")
    if key_file:
        return {"auth_type": "KEY", "key": _read(key_file)}
    if password_file:
        return {"auth_type": "PASSWORD", "password": _read(password_file).rstrip("\r\n")}
    if ask:
        return {
            "auth_type": "PASSWORD",
            "password": click.prompt("Password of the hosts", hide_input=True, err=True),
        }
    return {}


def _read(path: Path) -> str:
    try:
        with click.open_file(str(path)) as file:
            return str(file.read())
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path} is no text; name a file with a login in it.") from error
