"""hostler up: everything one machine needs, in the foreground."""

import fcntl
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import click
import requests

from app import __version__
from app.cli.existing import check_existing
from app.cli.first_start import first_start
from app.cli.redis_server import put_aside, redis_command
from app.jobs.context import open_context
from app.private import private_folder
from app.settings import Settings, reach
from app.supervise import Program, Supervisor

HEALTH_TIMEOUT = 1.0  # seconds


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Of API and console; 0: a free one.")
@click.option("--host", help="The address API and console listen on.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--workers", type=click.IntRange(0, 256), help="How many runs at once.")
@click.option("--package-port", type=click.IntRange(0, 65535), help="Of the package listener.")
def up(**options: Any) -> None:
    """Start API, console, workers, Redis and database; stop them all with Ctrl-C."""
    if options["data_dir"]:
        options["data_dir"] = options["data_dir"].resolve()
    settings = Settings.from_env(**options)
    os.umask(0o077)  # what we and our programs write is nobody else's to read
    with take_data_dir(settings.data_dir):
        run(settings, {name: value for name, value in options.items() if value is not None})


def run(settings: Settings, options: Mapping[str, Any]) -> None:
    """Keep it all running until a signal says stop."""
    api = listen(settings.host, settings.port, "--port")
    packages = listen(settings.package_host, settings.package_port, "--package-port")
    options = {
        **options,
        "data_dir": settings.data_dir,
        "port": api.getsockname()[1],
        "package_port": packages.getsockname()[1],
    }
    settings = Settings.from_env(**options)
    environment = child_environment(options)
    private_folder(settings.run_folder, "HOSTLER_RUN_DIR")
    check_existing(settings)
    ctx = open_context(settings)
    first_start(ctx)
    ctx.engine.dispose()  # children must not share its connections
    say(f"Hostler {__version__} in {settings.data_dir}")
    Supervisor(programs(settings, environment, api, packages), say).run(
        is_ready=lambda: is_healthy(settings), on_ready=lambda: greet(settings)
    )
    with suppress(OSError):
        settings.run_folder.rmdir()  # unless a run of ours is still to be looked into
    say("stopped")


def programs(
    settings: Settings,
    environment: Mapping[str, str],
    api: socket.socket,
    packages: socket.socket,
) -> list[Program]:
    """What runs here; what takes requests stops first, Redis last."""
    found = [
        Program(
            name="API",
            command=gunicorn(settings, api, settings.api_threads, "app.wsgi:api()"),
            environment=environment,
            pass_fds=(api.fileno(),),
        ),
        Program(
            name="package listener",
            command=gunicorn(settings, packages, settings.api_threads, "app.wsgi:packages()"),
            environment=environment,
            pass_fds=(packages.fileno(),),
        ),
        *(
            Program(
                name=f"worker {n}",
                command=hostler("worker"),
                environment=environment,
                rank=1,
                # asked once it finishes its run: without us nobody would ask it twice
                death_signal=signal.SIGKILL,
            )
            for n in range(1, settings.workers + 1)
        ),
    ]
    if settings.default_agent_package:
        command = hostler("package", "add-default")
        found.append(
            Program(
                name="default package", command=command, environment=environment, is_errand=True
            )
        )
    if not settings.redis_url:
        redis = Program(
            name="Redis",
            command=redis_command(settings),
            rank=2,
            mend=lambda: _mended(settings),
        )
        found.insert(0, redis)
    return found


def _mended(settings: Settings) -> str:
    aside = put_aside(settings)
    if aside is None:
        return ""
    return f"What Redis kept is in {aside} now; the work it held is offered again"


def hostler(*arguments: str) -> tuple[str, ...]:
    """The command that runs this same program with these arguments."""
    return (sys.executable, "-m", "app.cli", *arguments)


def gunicorn(
    settings: Settings, listener: socket.socket, threads: int, wsgi: str
) -> tuple[str, ...]:
    """The command that serves this application on an open socket of ours."""
    return (
        *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
        # our own open socket: callers wait while it starts again, they are not refused
        *("--bind", f"fd://{listener.fileno()}"),
        *("--worker-class", "gthread", "--workers", "1", "--threads", str(threads)),
        *("--worker-tmp-dir", str(settings.run_dir if settings.run_dir.is_dir() else "/tmp")),  # noqa: S108
        *("--timeout", "60", "--graceful-timeout", "3", "--log-level", "warning"),
        wsgi,
    )


def child_environment(options: Mapping[str, Any]) -> dict[str, str]:
    """What the command line said, for the programs it starts."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    named = {f"HOSTLER_{name.upper()}": str(value) for name, value in options.items()}
    # a file names the same setting, and would win
    files = {f"{name}_FILE": "" for name in named if f"{name}_FILE" in os.environ}
    return {**files, **named, "PATH": path, "PYTHONUNBUFFERED": "1"}


def listen(host: str, port: int, option: str) -> socket.socket:
    """An open listening socket, or the sentence that says what to do."""
    everywhere = not host and socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if ":" in host or everywhere else socket.AF_INET
        return socket.create_server(
            (host, port), family=family, backlog=2048, dualstack_ipv6=everywhere
        )
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {host or '*'} port {port}: {error.strerror}. "
            f"Choose another with {option} (0 takes a free one)."
        ) from error


def take_data_dir(folder: Path) -> IO[str]:
    """Make the folder ours alone while the answer stays open."""
    try:
        private_folder(folder, "--data-dir")
        lock = (folder / "up.lock").open("w")
    except OSError as error:
        raise click.ClickException(
            f"Cannot write in the data folder {folder}: {error.strerror}. "
            "Choose another with --data-dir."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise click.ClickException(
            f"Another hostler runs in {folder}; stop it first, or choose another --data-dir."
        ) from error
    return lock


def is_healthy(settings: Settings) -> bool:
    """Whether the API answers and says that work can be accepted."""
    url = f"{reach(settings.host, settings.port)}/healthz"
    try:
        return local_session().get(url, timeout=HEALTH_TIMEOUT).ok
    except requests.RequestException:
        return False


def local_session() -> requests.Session:
    """A way to our own loopback, which no proxy of the environment is on."""
    session = requests.Session()
    session.trust_env = False
    return session


def greet(settings: Settings) -> None:
    """Say where everything is."""
    admin = settings.data_dir / "admin.json"
    say(f"  console       {settings.site}/")
    say(f"  rq dashboard  {settings.site}/rq/")
    say(f"  packages      {reach(settings.package_host, settings.package_port)}/packages/")
    if admin.exists():
        say(f"  sign in with  {admin}")
    say(f"hostler is ready at {settings.site} (Ctrl-C stops it)")


def say(text: str) -> None:
    """Tell the terminal, now."""
    click.echo(text)
    sys.stdout.flush()
