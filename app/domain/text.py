"""Which characters are text that every database and every JSON reader can keep."""

import re
from typing import Any

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of surrogate pairs
REPLACEMENT = "\ufffd"


def storable(said: Any) -> Any:
    """The same strings, lists, mappings and scalars, with what nobody can keep replaced.

    For what hosts say, whose logs may hold anything; what callers send is refused instead.
    """
    match said:
        case str():
            return UNSTORABLE.sub(REPLACEMENT, said)
        case dict():
            return {storable(key): storable(value) for key, value in said.items()}
        case list():
            return [storable(item) for item in said]
        case _:
            return said
