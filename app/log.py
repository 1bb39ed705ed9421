"""Logs: an English sentence for people, an `action` and ids for machines; never a login."""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict

log = structlog.get_logger("hostler")


def configure_logging(level: str = "INFO", json: bool = False) -> None:
    """Write log lines to standard error: JSON for machines, or plain text on a terminal."""
    renderer = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # the default one prints local variables, and one of them may be a login
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _escape_controls,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _escape_controls(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Show what would control a terminal by its number: a line may hold a host's words."""
    for name, value in event.items():
        if isinstance(value, str) and CONTROLS.search(value):
            event[name] = CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return event
