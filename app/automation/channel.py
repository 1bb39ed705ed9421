"""Carry events from ansible-playbook to its runner: JSON with its length before it, on a pipe.

What ansible-playbook prints holds the words of hosts, so nothing that is printed is an event. Only
ansible-playbook's own process has the pipe: its forks close it, its commands never get it.
"""

import json
import os
import selectors
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any

LENGTH = struct.Struct(">I")
MOST_EVENT = 8 * 2**20  # bytes of one event; a host says much less, however it is escaped
CHUNK = 2**16
LAST_WORDS = 2**16  # bytes kept of what is printed in other ways than by Ansible's display
UNREADABLE = "The host's answer could not be read: {}"


class Sender:
    """The end in ansible-playbook."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    def close(self) -> None:
        """In a fork: what hosts say arrives there, so nothing there can send."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Send this event; when it cannot be written, that its host has no readable result."""
        body = _written(event)
        with self._lock:
            if self._descriptor is not None:
                rest = memoryview(LENGTH.pack(len(body)) + body)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]


def _written(event: Mapping[str, Any]) -> bytes:
    try:
        body = json.dumps(event, allow_nan=False, default=str).encode()
        why = f"it has {len(body)} bytes"
    except (TypeError, ValueError, RecursionError) as error:
        body, why = b"", type(error).__name__
    if 0 < len(body) <= MOST_EVENT:
        return body
    data = event.get("event_data") or {}
    rest = {name: data[name] for name in ("host", "task") if name in data}
    said = {"event_data": rest | {"unreadable": UNREADABLE.format(why)}, "stdout": ""}
    return json.dumps({**event, **said}, default=str).encode()


def receive(events: int, words: int) -> Iterator[dict[str, Any]]:
    """Every event in its order, until the other end is closed; then what else was printed last."""
    said = bytearray()
    buffer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(events, selectors.EVENT_READ)
        selector.register(words, selectors.EVENT_READ)
        is_open = True
        while is_open:
            ready = {key.fd for key, _ in selector.select()}
            if words in ready and not _listen(words, said):
                selector.unregister(words)
            if events in ready:
                chunk = os.read(events, CHUNK)
                is_open = bool(chunk)
                buffer += chunk
                yield from _complete(buffer)
        if words in selector.get_map():
            _listen(words, said, wait=False)
    if said.strip():
        yield {"event": "verbose", "stdout": said.decode(errors="replace")}


def _complete(buffer: bytearray) -> Iterator[dict[str, Any]]:
    """Take the events from the buffer that have arrived whole; a malformed one costs itself."""
    while len(buffer) >= LENGTH.size:
        (length,) = LENGTH.unpack_from(buffer)
        if length > MOST_EVENT + CHUNK:
            raise ValueError(f"an event of {length} bytes cannot be ours")
        end = LENGTH.size + length
        if len(buffer) < end:
            return
        body = bytes(buffer[LENGTH.size : end])
        del buffer[:end]
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def _listen(descriptor: int, said: bytearray, *, wait: bool = True) -> bool:
    """Keep the last of what is printed; False when there is nothing more."""
    os.set_blocking(descriptor, wait)
    try:
        chunk = os.read(descriptor, CHUNK)
    except BlockingIOError:
        return False
    said += chunk
    del said[:-LAST_WORDS]
    return bool(chunk)
