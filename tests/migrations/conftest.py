"""What the tests of migrations share."""

from tests.postgres import postgres

__all__ = ["postgres"]
