"""Tell the runner what happens in ansible-playbook, with what Ansible would have printed for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ansible.utils.display import Display

from app.automation.channel import UNREADABLE, Sender
from app.automation.said import shorten

MOST_TEXT = 64 * 1024  # characters printed for one event

_here = threading.local()  # `texts`: what this thread prints for the event it is in
_sender: Sender | None = None


def tell_on(sender: Sender) -> None:
    """Send from now on what is displayed, instead of printing it."""
    global _sender
    _sender = sender
    show = Display.display

    def tell(
        self: Any,
        msg: str,
        color: str | None = None,
        stderr: bool = False,
        screen_only: bool = False,
        log_only: bool = False,
        newline: bool = True,
        **more: Any,
    ) -> None:
        if not sender.is_open:  # a worker hands on to ansible-playbook what it has to say
            show(self, msg, color, stderr, screen_only, log_only, newline, **more)
        elif not log_only:
            _say(msg if msg.endswith("\n") or not newline else f"{msg}\n")

    Display.display = tell  # type: ignore[method-assign]


def _say(text: str) -> None:
    texts: list[str] | None = getattr(_here, "texts", None)
    if texts is not None:
        texts.append(text)
    elif text.strip():
        _send("verbose", {}, text)


@contextmanager
def told(event: str, **data: Any) -> Iterator[dict[str, Any]]:
    """Send this event, and what is put into its data, when its text has been displayed.

    What can be neither displayed nor read is sent as that: Ansible would end the whole run for it.
    """
    _here.texts = texts = []
    try:
        yield data
    except Exception as error:
        why = type(error).__name__
        texts.append(f"What happened cannot be shown ({why}).\n")
        if "res" not in data:
            data["unreadable"] = UNREADABLE.format(why)
    finally:
        _here.texts = None
        _send(event, data, "".join(texts))


def _send(event: str, data: dict[str, Any], text: str) -> None:
    assert _sender, "launch opens the channel before Ansible begins"
    at = datetime.now(UTC).isoformat()
    text = shorten(text, MOST_TEXT)
    _sender.send({"event": event, "created": at, "event_data": data, "stdout": text})
