"""Read YAML that somebody else wrote: bounded before it becomes objects."""

from collections.abc import Collection
from typing import Any

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from app.domain.errors import InvalidRequest
from app.domain.sentences import say

MOST_CHARACTERS = 1024 * 1024
MOST_NODES = 20_000
DEEPEST = 20
MOST_DIGITS = 50  # of a whole number: more cost time by the square
WHOLE = "tag:yaml.org,2002:int"
TEXT = "tag:yaml.org,2002:str"


class _Bounded(yaml.SafeLoader):
    """PyYAML's safe loader, without aliases and with an end to how much and how deep.

    A kilobyte of aliases can stand for gigabytes of lists.
    """

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self._file = file
        self._nodes = self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(AliasEvent):
            aliases = say("{file} uses aliases (`*name`); write the values out.", file=self._file)
            raise InvalidRequest(aliases)
        self._nodes += 1
        if self._nodes > MOST_NODES or self._depth > DEEPEST:
            too_much = say("{file} holds more, or nests deeper, than it needs.", file=self._file)
            raise InvalidRequest(too_much)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, ScalarNode) and len(node.value) > MOST_DIGITS and node.tag == WHOLE:
            too_long = say("{file} holds a number of more than {most} digits.", **self._most())
            raise InvalidRequest(too_long)
        return node

    def _most(self) -> dict[str, Any]:
        return {"file": self._file, "most": MOST_DIGITS}


def read_yaml(text: str, file: str, as_written: Collection[str] = ()) -> Any:
    """The value of a YAML text, of which the top-level scalars `as_written` stay text.

    `version: 1.10` is a number to YAML, and would lose its zero. Raises InvalidRequest, which names
    the file.
    """
    if len(text) > MOST_CHARACTERS:
        size = say("{file} is larger than {most} characters.", file=file, most=MOST_CHARACTERS)
        raise InvalidRequest(size)
    try:
        loader = _Bounded(text, file)
        node = loader.get_single_node()
        _keep_as_written(node, as_written)
        return loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())[:200]
        raise InvalidRequest(say("{file} is not YAML: {why}.", file=file, why=why)) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # PyYAML's words for a date that is none, or a key that cannot be one
        why = str(error)[:200]
        raise InvalidRequest(say("{file} cannot be read: {why}.", file=file, why=why)) from None


def _keep_as_written(node: Node | None, names: Collection[str]) -> None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value in names and isinstance(value, ScalarNode):
                value.tag = TEXT
