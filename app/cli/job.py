"""hostler job: start jobs, look at them, try again, stop them."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import click
from rich.live import Live

from app.cli.client import Client, open_client
from app.cli.hosts import (
    DEFAULT_USER,
    SSH_PORT,
    HostName,
    Named,
    as_typed,
    login_options,
    read_login,
)
from app.cli.table import MOST_ROWS, counts, draw, is_final, open_console

LOOK_EVERY = 1.0  # seconds
INNER = ("inner_ip", "inner_ipv6")
AUTOMATIC = -1  # the access point is chosen for us
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

detach = click.option("--detach", is_flag=True, help="Do not wait for the end.")
only_hosts = click.option(
    "--host", "hosts", type=HostName(), multiple=True, help="Only this one; may be repeated."
)


@click.group()
@click.option("--url", help="Where Hostler is; default: as admin.json says.")
@click.option("--app-code", help="The program to be there; default: as admin.json says.")
@click.option("--app-secret-file", type=FILE, help="Holds that program's secret.")
@click.pass_context
def job(
    ctx: click.Context,
    url: str | None,
    app_code: str | None,
    app_secret_file: Path | None,
) -> None:
    """Jobs on hosts, over the REST API."""
    ctx.obj = lambda: open_client(url, app_code, app_secret_file)


@job.command()
@click.argument("hosts", type=HostName(), nargs=-1, required=True)
@login_options
@click.option("--type", "job_type", default="INSTALL_AGENT", show_default=True)
@click.option("--business", type=int, default=1, show_default=True)
@click.option("--zone", type=int, default=0, show_default=True)
@click.option("--version", help="Of the package; default: the newest.")
@detach
@click.pass_obj
def install(
    connect: Callable[[], Client],
    hosts: tuple[Named, ...],
    password_file: Path | None,
    key_file: Path | None,
    job_type: str,
    business: int,
    zone: int,
    version: str | None,
    detach: bool,
) -> None:
    """Install the agent on hosts: [user@]address[:port] …"""
    client = connect()
    login = read_login(password_file, key_file, ask=True)
    rows = [
        {
            **named.fields,
            **login,
            "bk_biz_id": business,
            "bk_cloud_id": zone,
            "ap_id": AUTOMATIC,
            "os_type": "LINUX",
            "account": named.user or DEFAULT_USER,
            "port": named.port or SSH_PORT,
        }
        for named in hosts
    ]
    chosen = {"agent_setup_info": {"version": version}} if version else {}
    submitted = client.install(job_type, rows, **chosen)
    click.echo(f"Job {submitted['job_id']}: {submitted['job_url']}")
    _finish(client, submitted["job_id"], detach)


@job.command()
@click.argument("job_id", type=int)
@click.pass_obj
def show(connect: Callable[[], Client], job_id: int) -> None:
    """A job as it is now, with a row per host."""
    open_console().print(draw(connect().details(job_id)))


@job.command()
@click.argument("job_id", type=int)
@click.pass_obj
def watch(connect: Callable[[], Client], job_id: int) -> None:
    """A job until it ends; exit code 0 says every host is done."""
    _finish(connect(), job_id, detach=False)


@job.command()
@click.argument("job_id", type=int)
@only_hosts
@login_options
@click.option("--ask-password", is_flag=True, help="Ask for a new login.")
@detach
@click.pass_obj
def retry(
    connect: Callable[[], Client],
    job_id: int,
    hosts: tuple[Named, ...],
    password_file: Path | None,
    key_file: Path | None,
    ask_password: bool,
    detach: bool,
) -> None:
    """Try again what failed, and nothing else; a new login may come along."""
    client = connect()
    login = read_login(password_file, key_file, ask_password)
    chosen = _rows_of(client.details(job_id), hosts, "FAILED")
    body: dict[str, Any] = {}
    if hosts:
        body["instance_id_list"] = [row["instance_id"] for row, _ in chosen]
    if login:
        body["hosts"] = _with_logins(client, chosen, login)
    client.post(f"/api/job/{job_id}/retry/", **body)
    _finish(client, job_id, detach)


@job.command()
@click.argument("job_id", type=int)
@only_hosts
@detach
@click.pass_obj
def revoke(
    connect: Callable[[], Client], job_id: int, hosts: tuple[Named, ...], detach: bool
) -> None:
    """Stop what waits or runs."""
    client = connect()
    body = {}
    if hosts:
        chosen = _rows_of(client.details(job_id), hosts, "PENDING", "RUNNING")
        body["instance_id_list"] = [row["instance_id"] for row, _ in chosen]
    client.post(f"/api/job/{job_id}/revoke/", **body)
    _finish(client, job_id, detach)


def _rows_of(
    details: dict[str, Any], hosts: tuple[Named, ...], *statuses: str
) -> list[tuple[dict[str, Any], Named | None]]:
    """The rows of these hosts, or of all in such a status."""
    rows = [row for row in details["list"] if row.get("instance_id")]
    if not hosts:
        return [(row, None) for row in rows if row["status"] in statuses]
    at = {as_typed(row[name]): row for row in rows for name in INNER if row[name]}
    if unknown := [named.address for named in hosts if named.address not in at]:
        there = ", ".join(as_typed(row["ip"]) for row in rows)
        raise click.ClickException(
            f"Job {details['job_id']} has no host {', '.join(unknown)}; it has: {there}."
        )
    return [(at[named.address], named) for named in hosts]


def _with_logins(
    client: Client, chosen: list[tuple[dict[str, Any], Named | None]], login: dict[str, str]
) -> list[dict[str, Any]]:
    """New logins for these hosts; account and port stay what they were unless they were said."""
    known = client.logins([row["bk_host_id"] for row, _ in chosen])
    return [
        {
            "bk_host_id": row["bk_host_id"],
            "account": (named and named.user) or known[row["bk_host_id"]]["account"],
            "port": (named and named.port) or known[row["bk_host_id"]]["port"],
            **login,
        }
        for row, named in chosen
    ]


GOES_ON = (
    "\nJob {0} goes on. To follow it: hostler job watch {0}; to stop it: hostler job revoke {0}"
)


def _finish(client: Client, job_id: int, detach: bool) -> None:
    """Watch the job to its end, unless asked not to; a job that did not succeed exits 1."""
    if detach:
        return
    try:
        details = _watch(client, job_id)
    except KeyboardInterrupt:
        click.echo(GOES_ON.format(job_id), err=True)
        raise SystemExit(130) from None  # as shells say of a program that was interrupted
    if details["status"] != "SUCCESS":
        raise SystemExit(1)


def _watch(client: Client, job_id: int) -> dict[str, Any]:
    console, clock = open_console(), Event()
    details: dict[str, Any] = client.details(job_id)
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            while not is_final(details):
                live.update(draw(details, MOST_ROWS), refresh=True)
                clock.wait(LOOK_EVERY)
                details = client.details(job_id)
    else:
        said = ""
        while not is_final(details):
            if (now := counts(details)) != said:
                console.print(f"{details['status']}: {now}", markup=False, highlight=False)
                said = now
            clock.wait(LOOK_EVERY)
            details = client.details(job_id)
    console.print(draw(details))
    return details
