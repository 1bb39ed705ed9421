"""How a domain word is stored: as its text, read back as the word."""

from collections.abc import Callable
from enum import StrEnum

from sqlalchemy import String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class Word(TypeDecorator[StrEnum]):
    """A column holding one word of an enumeration."""

    impl = String(24)
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def bind_processor(self, dialect: Dialect) -> Callable[[StrEnum | None], str | None]:
        """Look the word up: asking the enumeration is slow, and every row asks."""
        texts: dict[StrEnum | None, str | None] = {word: word.value for word in self.words}
        return (texts | {None: None}).__getitem__

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[str | None], StrEnum | None]:
        """The same back."""
        words: dict[str | None, StrEnum | None] = {word.value: word for word in self.words}
        return (words | {None: None}).__getitem__
