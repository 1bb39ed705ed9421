"""Logs: an English sentence for people, an `action` and ids for machines; never a login."""

import logging
import sys

import structlog

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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
