"""Events arrive whole, in order and by themselves; what is printed beside them is only words."""

import json
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.automation.channel import CHUNK, LENGTH, MOST_EVENT, Sender, receive
from app.automation.events import HostResult, Tally, read


class Pipes:
    """Both ends of a channel."""

    def __init__(self) -> None:
        self.events, told = os.pipe()
        self.words, self.printed = os.pipe()
        self.told: int | None = told
        self.sender = Sender(told)

    def hang_up(self) -> None:
        self.sender.close()

    def received(self) -> list[dict[str, Any]]:
        return list(receive(self.events, self.words))


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    pipes.hang_up()
    for end in (pipes.events, pipes.words, pipes.printed):
        os.close(end)


def about(**result: Any) -> dict[str, Any]:
    data = {"host": "host_1", "task": "t", "res": result}
    return {"event": "runner_on_ok", "created": None, "event_data": data, "stdout": "ok"}


def test_events_arrive_in_their_order_whatever_their_length(pipes: Pipes) -> None:
    sent = [about(n=n, text="x" * (n * 40_000)) for n in range(8)]

    def send() -> None:
        for event in sent:
            pipes.sender.send(event)
        pipes.hang_up()

    thread = threading.Thread(target=send)
    thread.start()

    assert pipes.received() == sent
    thread.join()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"7", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 5000, b"9" * 5000]
)
def test_a_malformed_event_costs_itself(pipes: Pipes, body: bytes) -> None:
    pipes.sender.send(about(n=1))
    os.write(pipes.sender._descriptor or 0, LENGTH.pack(len(body)) + body)
    pipes.sender.send(about(n=2))
    pipes.hang_up()

    assert pipes.received() == [about(n=1), about(n=2)]


def test_an_event_longer_than_any_of_ours_is_no_event(pipes: Pipes) -> None:
    os.write(pipes.sender._descriptor or 0, LENGTH.pack(MOST_EVENT + CHUNK + 1))

    with pytest.raises(ValueError, match="cannot be ours"):
        pipes.received()


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "result",
    [
        {"phases": [], "x": nested(100_000)},
        {"phases": [], "x": math.nan},
        {"phases": [], "x": "x" * (MOST_EVENT + 1)},
        {"phases": [], (1, 2): "no name"},
    ],
)
def test_a_result_nobody_can_read_fails_its_host_even_if_ansible_says_it_is_well(
    pipes: Pipes, result: dict[Any, Any]
) -> None:
    counts = {"ok": {"host_1": 1, "host_2": 1}, "processed": {"host_1": 1, "host_2": 1}}
    pipes.sender.send(about() | {"event_data": {"host": "host_1", "task": "t", "res": result}})
    pipes.sender.send({"event": "playbook_on_stats", "event_data": counts})
    pipes.hang_up()
    tally = Tally(frozenset({1, 2}))

    for raw in pipes.received():
        for event in read(raw):
            tally.add(event)

    verdict = tally.verdict("successful", "")
    assert verdict.proven_ok == {2}
    assert "could not be read" in verdict.failed[1][1]


def test_what_is_printed_is_no_event_and_its_end_is_kept(pipes: Pipes) -> None:
    event = json.dumps(about(n=1)).encode()
    os.write(pipes.printed, LENGTH.pack(len(event)) + event)
    os.write(pipes.printed, b"Traceback: last words\n")
    pipes.hang_up()

    (said,) = pipes.received()

    assert said["event"] == "verbose"
    assert said["stdout"].endswith("last words\n")
    assert not [event for event in read(said) if isinstance(event, HostResult)]


def test_a_fork_that_closed_its_end_sends_nothing(pipes: Pipes) -> None:
    pipes.hang_up()
    pipes.sender.send(about(n=1))

    assert pipes.received() == []
