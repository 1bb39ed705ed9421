"""Sentences for people: English text that remembers its message key and values.

A sentence is a string, so it can be compared, logged and sent like one. It is stored with its key
and values (`stored`), and said in the reader's language when it is read (`translated`).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

STORED = "\x01"  # begins the stored form; no plain text is stored with it in front
JOINED = ""  # the key of sentences said one after the other


class Sentence(str):
    """The English text of a message, with the key and values it was made of."""

    key: str
    values: Mapping[str, Any]

    def __new__(cls, text: str, key: str, values: Mapping[str, Any]) -> Self:
        made = super().__new__(cls, text)
        made.key, made.values = key, values
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Sentence, (str(self), self.key, dict(self.values))


def say(key: str, /, **values: Any) -> Sentence:
    """Fill the named places of a message: `say("Host {host} is busy.", host=name)`.

    The key is English and a constant of ours: catalogues of translations are made from the calls.
    Values are data, and may be sentences themselves.
    """
    return Sentence(key.format(**values), key, values)


def join(sentences: Iterable[str], by: str = " ") -> Sentence:
    """Say several sentences, or plain texts, one after the other."""
    parts = tuple(part for part in sentences if part)
    return Sentence(by.join(parts), JOINED, {"parts": parts, "by": by})


def translated(text: str, look_up: Callable[[str], str]) -> str:
    """Say a sentence by the translation of its key; any other text is as it is."""
    if not isinstance(text, Sentence):
        return text
    values = {name: _translated(value, look_up) for name, value in text.values.items()}
    if text.key == JOINED:
        return str(values["by"]).join(values["parts"])
    return look_up(text.key).format(**values)


def _translated(value: Any, look_up: Callable[[str], str]) -> Any:
    match value:
        case Sentence():
            return translated(value, look_up)
        case list() | tuple():
            return [_translated(item, look_up) for item in value]
        case _:
            return value


def mapped(text: str, change: Callable[[str], str]) -> str:
    """Change a text, or each text among a sentence's values: how secrets are hidden in it."""
    if not isinstance(text, Sentence):
        return change(text)
    values = {name: _mapped(value, change) for name, value in text.values.items()}
    return _made(text.key, values)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return mapped(value, change)
        case list() | tuple():
            return [_mapped(item, change) for item in value]
        case _:
            return value


def _made(key: str, values: dict[str, Any]) -> Sentence:
    if key == JOINED:
        return join(values["parts"], values["by"])
    return say(key, **values)


def stored(text: str) -> str:
    """Write a sentence so that `restored` gives it back with its key and values."""
    if isinstance(text, Sentence):
        return STORED + json.dumps(_plain(text), ensure_ascii=False, separators=(",", ":"))
    return text.lstrip(STORED)


def restored(text: str) -> str:
    """Read what `stored` wrote; anything else is plain text."""
    if not text.startswith(STORED):
        return text
    try:
        read = _rich(json.loads(text[1:]))
    except (ValueError, LookupError, TypeError, AttributeError):
        return text[1:]
    return read if isinstance(read, Sentence) else text[1:]


def _plain(value: Any) -> Any:
    match value:
        case Sentence():
            return {"key": value.key, "values": {n: _plain(v) for n, v in value.values.items()}}
        case list() | tuple():
            return [_plain(item) for item in value]
        case str() | int() | float() | None:
            return value
        case _:
            return str(value)


def _rich(value: Any) -> Any:
    match value:
        case {"key": str(key), "values": dict(values)}:
            return _made(key, {name: _rich(item) for name, item in values.items()})
        case list():
            return [_rich(item) for item in value]
        case _:
            return value
