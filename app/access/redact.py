"""Take secrets out of whatever is about to be stored or shown."""

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from app.domain.text import storable

MARK = "***"
SHORT = 6  # shorter values are hidden only as whole words: they occur inside harmless ones
REMEMBERED = 10_000  # texts known to be harmless, at most
REMEMBERED_LENGTH = 300
WRAPS = (76, 64)  # the line lengths base64 and PEM tools break at

TOKEN_START = re.compile(r"(?<!\w)(?=.)", re.DOTALL)
PERCENT = re.compile(r"%[0-9A-F]{2}")
IN_DOUBLE_QUOTES = re.compile(r'["$`\\]')
NOT_PLAIN = re.compile(r"[^\w@%+=:,./-]", re.ASCII)
URL_SAFE = str.maketrans("+/", "-_")
PEM_FRAME = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]+-----")

Span = tuple[int, int]


class Redactor:
    """Hides exact values, in every form they are likely to be printed in."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # by their first characters, then by length: a look-up per position, however many secrets
        self._long: dict[str, dict[int, set[str]]] = {}
        self._short: dict[int, set[str]] = {}
        self._harmless: set[str] = set()  # what hosts say is mostly what other hosts said
        for secret in {secret for secret in secrets if secret.strip()}:
            if len(secret.strip()) < SHORT:
                self._add_short(secret.strip())
            else:
                self._add_long(secret)

    def _add_short(self, secret: str) -> None:
        for form in _printed(secret) | _encoded_whole(secret):
            self._short.setdefault(len(form), set()).add(form)

    def _add_long(self, secret: str) -> None:
        for form in _long_forms(secret):
            by_length = self._long.setdefault(form[:SHORT], {})
            by_length.setdefault(len(form), set()).add(form)

    def text(self, text: str) -> str:
        """The text with every secret hidden, and without what no database keeps.

        The very same text when there is neither.
        """
        if text in self._harmless:
            return text
        spans = [*self._find_long(text), *self._find_short(text)]
        if spans:
            return storable(_hide(text, spans))
        text = storable(text)
        if len(text) <= REMEMBERED_LENGTH and len(self._harmless) < REMEMBERED:
            self._harmless.add(text)
        return text

    def value(self, value: Any) -> Any:
        """The same for anything made of lists, mappings and scalars, keys included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.value(key): self.value(item) for key, item in value.items()}
            case list():
                return [self.value(item) for item in value]
            case tuple():
                return tuple(self.value(item) for item in value)
            case bool() | None:
                return value
            case bytes():
                return self._whole(value, value.decode(errors="backslashreplace"))
            case _:
                return self._whole(value, str(value))

    def _whole(self, value: Any, text: str) -> Any:
        """A password of digits may come back as a number; a short one is no reason to hide it."""
        return value if next(self._find_long(text), None) is None else MARK

    def _find_long(self, text: str) -> Iterator[Span]:
        if not self._long:
            return
        starts = self._long
        for at in range(len(text) - SHORT + 1):
            forms = starts.get(text[at : at + SHORT])
            if forms is not None:
                for length, values in forms.items():
                    if text[at : at + length] in values:
                        yield at, at + length

    def _find_short(self, text: str) -> Iterator[Span]:
        if not self._short:
            return
        for match in TOKEN_START.finditer(text):
            at = match.start()
            for length, values in self._short.items():
                end = at + length
                if text[at:end] in values and not _continues(text, end):
                    yield at, end


def _continues(text: str, end: int) -> bool:
    return end < len(text) and (text[end].isalnum() or text[end] == "_")


def _hide(text: str, spans: list[Span]) -> str:
    """Cut out the union of the spans: what overlaps hides together."""
    pieces, kept_to = [], 0
    for start, end in _merged(sorted(spans)):
        pieces += [text[kept_to:start], MARK]
        kept_to = end
    return "".join([*pieces, text[kept_to:]])


def _merged(spans: list[Span]) -> Iterator[Span]:
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start > end:
            yield start, end
            start = next_start
        end = max(end, next_end)
    yield start, end


def _long_forms(secret: str) -> set[str]:
    """Every form of a secret, and of its lines one by one: logs rarely show a key in one piece."""
    forms = (
        _printed(secret) | _printed(secret.strip()) | _encoded(secret) | _encoded(secret.strip())
    )
    for line in _telling_lines(secret):
        forms |= _printed(line)
    return forms


def _telling_lines(secret: str) -> Iterator[str]:
    for line in map(str.strip, secret.splitlines()):
        if len(line) >= SHORT and not PEM_FRAME.fullmatch(line):
            yield line


def _printed(secret: str) -> set[str]:
    """As it is, and as URLs, shells, Python and JSON write it; JSON also around the others."""
    forms = {secret, repr(secret)[1:-1], *_in_urls(secret), *_in_shells(secret), *_in_json(secret)}
    return forms.union(*map(_in_json, forms))


def _in_json(text: str) -> set[str]:
    return {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def _in_urls(secret: str) -> set[str]:
    data = _bytes(secret)
    upper = {quote(data, safe=""), quote(data, safe="/"), quote_plus(data)}
    return upper | {PERCENT.sub(lambda found: found[0].lower(), form) for form in upper}


def _in_shells(secret: str) -> set[str]:
    return {
        shlex.quote(secret).removeprefix("'").removesuffix("'"),
        secret.replace("'", r"'\''"),
        IN_DOUBLE_QUOTES.sub(r"\\\g<0>", secret),
        NOT_PLAIN.sub(r"\\\g<0>", secret),
    }


def _encoded(secret: str) -> set[str]:
    """Base64, wherever in a longer encoded text the secret stands, and broken into lines."""
    forms = _encoded_whole(secret) | {_encoded_inside(secret, lead) for lead in range(3)}
    for wrap in WRAPS:
        forms |= set(_wrapped(_base64(_bytes(secret)), wrap))
    forms |= {form.translate(URL_SAFE) for form in forms}
    return forms | {quote(form, safe="") for form in forms}


def _encoded_whole(secret: str) -> set[str]:
    whole = _base64(_bytes(secret))
    return {whole, whole.rstrip("=")}


def _encoded_inside(secret: str, lead: int) -> str:
    """The characters that depend on the secret alone, when `lead` bytes stand before it."""
    data = bytes(lead) + _bytes(secret)
    return _base64(data)[-(-lead * 8 // 6) : len(data) * 8 // 6]


def _wrapped(encoded: str, width: int) -> Iterator[str]:
    if len(encoded) > width:
        lines = (encoded[start : start + width] for start in range(0, len(encoded), width))
        yield from (line for line in lines if len(line) >= SHORT)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(secret: str) -> bytes:
    return secret.encode(errors="surrogatepass")
