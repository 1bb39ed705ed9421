"""Which characters are text that every database and every JSON reader can keep."""

import re
from typing import Any

# PostgreSQL refuses NUL characters, and UTF-8 has no way to say half a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The text with what nobody can keep replaced; the very same text if all of it can be kept.

    For what hosts say, whose logs may hold anything; what callers send is refused instead.
    """
    return UNSTORABLE.sub(REPLACEMENT, text)


def storable_value(value: Any) -> Any:
    """The same for anything made of lists, mappings and scalars, keys included."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable_value(key): storable_value(item) for key, item in value.items()}
        case list():
            return [storable_value(item) for item in value]
        case _:
            return value
