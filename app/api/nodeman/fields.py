"""Fields as this language's clients really send and read them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, TypeVar

from flask import g
from marshmallow import EXCLUDE, Schema, ValidationError, fields

from app.api.dialect import language, refuse_unstorable
from app.api.nodeman import vocabulary
from app.domain.accounts import account_problem
from app.domain.errors import InvalidRequest
from app.domain.paths import path_problem

LARGEST_STORED = 2**31 - 1
LARGEST_ASKED = 2**63 - 1
WHOLE = re.compile(r"^\s*[+-]?\d{1,19}(?:\.0+)?\s*$", re.ASCII)
MOMENT = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", re.ASCII)
MAX_TEXT = 1024
MOST_VALUES = 10_000  # databases limit how many one statement takes
MAX_SECRET = 64 * 1024


class Asked(Schema):
    """What a caller sends: keys we do not know are dropped without a word."""

    class Meta:
        unknown = EXCLUDE


class Whole(fields.Integer):
    """A whole number, also as a numeric string; an empty string means it was left out."""

    def __init__(
        self, *, least: int = 0, most: int = LARGEST_STORED, empty: int | None = None, **more: Any
    ) -> None:
        metadata = {"minimum": least, "maximum": most, **more.pop("metadata", {})}
        super().__init__(allow_none=not more.get("required"), metadata=metadata, **more)
        self.least, self.most, self.empty = least, most, empty

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_more: Any) -> Any:
        number = value if type(value) is int else self._read(value)
        if number is None:
            return self.empty
        if not self.least <= number <= self.most:
            raise ValidationError(f"must be from {self.least} to {self.most}, not {_short(number)}")
        return number

    def _read(self, value: Any) -> int | None:
        if isinstance(value, str):
            if not value.strip():
                return None
            if WHOLE.match(value):
                return int(value.strip().partition(".")[0])
        if isinstance(value, bool):
            return int(value) if self.metadata.get("flag") else self._refuse(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return self._refuse(value)

    @staticmethod
    def _refuse(value: Any) -> int:
        raise ValidationError(f"must be a whole number, not {_short(value)}")


class Id(Whole):
    """A number that names something; one that names nothing is simply not found."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"least": -LARGEST_ASKED, "most": LARGEST_ASKED, **more})


class Text(fields.String):
    """A short text; what it holds is data, whatever it looks like."""

    def __init__(self, *, most: int = MAX_TEXT, **more: Any) -> None:
        super().__init__(allow_none=not more.get("required"), **more)
        self.most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_more: Any) -> Any:
        if type(value) is not str:
            raise ValidationError(f"must be a text, not {_short(value)}")
        if len(value) > self.most:
            raise ValidationError(f"is longer than {self.most} characters")
        return value


class Name(Text):
    """A text that names something, so that there is one."""

    def __init__(self, **more: Any) -> None:
        super().__init__(required=True, metadata={"minLength": 1}, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if value == "":
            raise ValidationError("is empty; name one")
        return super()._deserialize(value, attr, data, **more)


class Account(Text):
    """Whom to log in as; empty means it was left out."""

    def __init__(self, **more: Any) -> None:
        metadata = {"description": 'printable characters except " and \\'}
        super().__init__(most=255, metadata=metadata, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        account = super()._deserialize(value, attr, data, **more)
        if account and (problem := account_problem(account)):
            raise ValidationError(problem)
        return account or None


class HostPath(Text):
    """A folder on a host; empty means it was left out."""

    def __init__(self, **more: Any) -> None:
        super().__init__(metadata={"description": "an absolute path"}, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        path = super()._deserialize(value, attr, data, **more)
        if path and (problem := path_problem(path)):
            raise ValidationError(problem)
        return path


class Secret(Text):
    """A password or key, plain or encrypted with our public key; comes out plain."""

    def __init__(self, **more: Any) -> None:
        super().__init__(most=MAX_SECRET, load_only=True, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if type(value) is not str:
            raise ValidationError("must be a text")  # never repeat a secret
        if len(value) > self.most:
            raise ValidationError(f"is longer than {self.most} characters")
        try:
            return g.open_secret(value, attr or "")
        except InvalidRequest as error:
            raise ValidationError(error.message) from error


class Word(Text):
    """One of a few words, or None when it was left empty."""

    def __init__(self, words: Sequence[str], **more: Any) -> None:
        metadata = {"enum": list(words), **more.pop("metadata", {})}
        super().__init__(metadata=metadata, **more)
        self.words = frozenset(words)
        self.numbers = {int(word): word for word in words if word.isdecimal()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if value == "":
            return None
        if type(value) is int:
            value = self.numbers.get(value, value)
        if not isinstance(value, str) or value not in self.words:
            known = ", ".join(sorted(self.words))
            raise ValidationError(f"{_short(value)} is not known; there are: {known}")
        return value


class Flag(fields.Boolean):
    """Yes or no, in any of the usual spellings; null and empty mean no."""

    def __init__(self, *, default: bool | None = False, **more: Any) -> None:
        super().__init__(allow_none=True, load_default=default, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if type(value) is bool:
            return value
        if value == "":
            return False
        if not isinstance(value, str | int):
            raise ValidationError(f"must be true or false, not {_short(value)}")
        return super()._deserialize(value, attr, data, **more)


class Address(Text):
    """An IP address; empty means there is none. IPv6 is kept in its exploded form."""

    def __init__(self, read: Callable[[str], str], **more: Any) -> None:
        super().__init__(**more)
        self.read = read

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_more: Any) -> Any:
        if value == "":
            return None
        try:
            return self.read(value)
        except NotOneHost:
            raise ValidationError(f"{_short(value)} is not the address of one host") from None
        except (ValueError, AttributeError, TypeError):
            raise ValidationError(f"{_short(value)} is not {self.metadata['means']}") from None


Either = TypeVar("Either", IPv4Address, IPv6Address)


class NotOneHost(ValueError):
    """An address that means everybody, many, or (0.0.0.0, to ssh) this very machine."""


EVERYBODY = IPv4Address("255.255.255.255")


def read_ipv4(text: str) -> str:
    """The address of a host in its usual form, or ValueError."""
    return str(_of_one_host(IPv4Address(text.strip())))


def read_ipv6(text: str) -> str:
    """The address of a host in its exploded form, or ValueError; one with a scope is refused."""
    address = IPv6Address(text.strip())
    if address.scope_id is not None:
        raise AddressValueError("an address of one link only")
    if address.ipv4_mapped is not None:
        raise AddressValueError("an IPv4 address, written as IPv6")  # it would be a second name
    return _of_one_host(address).exploded


def _of_one_host(address: Either) -> Either:
    if address.is_unspecified or address.is_multicast or address == EVERYBODY:
        raise NotOneHost(address)
    return address


def read_either(text: str) -> str:
    """An address of either family, or ValueError; an IPv4 one written as IPv6 is the IPv4 one."""
    if ":" not in text:
        return read_ipv4(text)
    mapped = IPv6Address(text.strip()).ipv4_mapped
    return read_ipv6(text) if mapped is None else read_ipv4(str(mapped))


def read_ipv4_list(text: str) -> str:
    """Addresses with commas between, each read, or ValueError."""
    return ",".join(read_ipv4(part) for part in text.split(","))


def ipv4(**more: Any) -> Address:
    """A field that holds an IPv4 address."""
    return Address(read_ipv4, metadata={"means": "an IPv4 address", "format": "ipv4"}, **more)


def ipv6(**more: Any) -> Address:
    """A field that holds an IPv6 address."""
    return Address(read_ipv6, metadata={"means": "an IPv6 address", "format": "ipv6"}, **more)


def ip(**more: Any) -> Address:
    """A field that holds an address of either family."""
    metadata = {
        "means": "an IP address",
        "description": "an address of either family",
        "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
    }
    return Address(read_either, metadata=metadata, **more)


def ipv4_list(**more: Any) -> Address:
    """A field that holds one IPv4 address or several."""
    metadata = {"means": "an IPv4 address, or several with commas between"}
    return Address(read_ipv4_list, metadata=metadata, **more)


class Many(fields.List[Any]):
    """A list; one value, or several with commas between, will do: queries cannot do better."""

    def __init__(self, inner: fields.Field[Any], *, most: int = MOST_VALUES, **more: Any) -> None:
        inner.allow_none = False
        super().__init__(inner, allow_none=True, **more)
        self.most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if value == "":
            return None  # left out, which is not the same as an empty selection
        if isinstance(value, str):
            value = _list_of(value)
        elif not isinstance(value, list):
            value = [value]
        if len(value) > self.most:
            raise ValidationError(f"has more than {self.most} entries")
        loaded = super()._deserialize(value, attr, data, **more)
        # an entry that names nothing must not turn "these" into "all"
        if empty := [index for index, entry in enumerate(loaded) if entry is None]:
            raise ValidationError({index: ["is empty"] for index in empty})
        return loaded


class Rows(fields.Nested):
    """Many objects of one schema, loaded without the schema's own detours: a call has thousands."""

    def __init__(self, nested: type[Schema], **more: Any) -> None:
        super().__init__(nested, many=True, allow_none=not more.get("required"), **more)

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, partial: Any = None, **_more: Any
    ) -> Any:
        value = _from_text(value)
        if not isinstance(value, list):
            raise ValidationError("must be a list of objects")
        wanted = self.schema.load_fields
        loaders = {f.data_key or name: (f.attribute or name, f) for name, f in wanted.items()}
        loaded, problems = [], {}
        for index, row in enumerate(value):
            try:
                loaded.append(self._load_row(row, loaders))
            except ValidationError as error:
                problems[index] = error.messages
        if problems:
            raise ValidationError(problems)
        return loaded

    @staticmethod
    def _load_row(row: Any, loaders: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(row, dict):
            raise ValidationError(f"must be an object, not {_short(row)}")
        loaded, problems = {}, {}
        for key, value in row.items():
            if value is None or key not in loaders:
                continue
            name, loader = loaders[key]
            try:
                loaded[name] = loader._deserialize(value, key, row)
            except ValidationError as error:
                problems[key] = error.messages
        if problems:
            raise ValidationError(problems)
        return loaded


class Object(fields.Nested):
    """An object of a schema, or None; queries and forms send it as JSON text."""

    def __init__(self, nested: type[Schema], **more: Any) -> None:
        super().__init__(nested, allow_none=True, load_default=None, **more)

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, partial: Any = None, **_more: Any
    ) -> Any:
        return None if value == "" else super()._deserialize(_from_text(value), attr, data, partial)


class Anything(fields.Raw):
    """A value of any shape."""


class AnyObject(Anything):
    """An object of any shape, or None; queries and forms send it as JSON text."""

    def __init__(self, **more: Any) -> None:
        metadata = {"type": "object", **more.pop("metadata", {})}
        super().__init__(allow_none=True, load_default=None, metadata=metadata, **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_more: Any) -> Any:
        return None if value == "" else _from_text(value)


class Built(fields.Nested):
    """Rows that were built ready for the wire: described by their schema, not walked through."""

    def __init__(self, nested: type[Schema], **more: Any) -> None:
        super().__init__(nested, many=True, **more)

    def _serialize(  # type: ignore[override]  # its two parents disagree about the names
        self, value: Any, attr: str | None, obj: Any, **_more: Any
    ) -> Any:
        return value


def written(moment: datetime | None) -> str | None:
    """A moment in the server's local time, as this language writes it."""
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Moment(fields.String):
    """A moment like 2024-01-31 12:00:00, in the server's local time."""

    def __init__(self, **more: Any) -> None:
        super().__init__(
            metadata={"example": "2024-01-31 12:00:00", "pattern": MOMENT.pattern}, **more
        )

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_more: Any) -> Any:
        return written(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_more: Any) -> Any:
        if value in ("", None):
            return None
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            raise ValidationError(
                f"{_short(value)} is no moment like 2024-01-31 12:00:00"
            ) from None


class Said(fields.String):
    """A domain word in this language."""

    def __init__(self, table: Mapping[Any, str], **more: Any) -> None:
        super().__init__(metadata={"enum": list(table.values())}, **more)
        self.table = table

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_more: Any) -> Any:
        return None if value is None else self.table[value]


class Titled(fields.String):
    """A title in the reader's language."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_more: Any) -> Any:
        return "" if value is None else value.in_language(language())


class Stated(Said):
    """A state in this language."""

    def __init__(self, **more: Any) -> None:
        super().__init__(vocabulary.STATUS, **more)


def _list_of(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        found = _json_of(text)
        return found if isinstance(found, list) else [found]
    return [part.strip() for part in text.split(",") if part.strip()]


def _from_text(value: Any) -> Any:
    is_json = isinstance(value, str) and value.lstrip().startswith(("{", "["))
    return _json_of(value) if is_json else value


def _json_of(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValidationError("is not JSON") from None
    if "\\u" in text:  # an escape brings in what was refused when the text came
        refuse_unstorable(found, "a JSON text")
    return found


def _short(value: Any) -> str:
    """A value in a sentence, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer too long to print
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"
