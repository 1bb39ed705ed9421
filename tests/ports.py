"""Ports of this machine that nobody else is given while a test needs them."""

import socket


def keep_port() -> socket.socket:
    """A socket that keeps a port of 127.0.0.1 for whoever binds it by its number, until closed.

    A port that is merely free now may be given to another test's server, or to any connection.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, which may join it
    keeper.bind(("127.0.0.1", 0))
    return keeper


def port_of(keeper: socket.socket) -> int:
    port: int = keeper.getsockname()[1]
    return port
