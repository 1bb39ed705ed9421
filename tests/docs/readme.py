"""README.md as data: its blocks, its tables, its links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"
FENCE = re.compile(r"^```(\w*) *(.*)$")
TICKED = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands beside that, and the heading it is under."""

    language: str
    note: str
    heading: str
    text: str


@cache
def blocks(path: Path = README) -> tuple[Block, ...]:
    """Every fenced block of a page, in order."""
    found, heading, open_block, lines = [], "", None, list[str]()
    for line in path.read_text().splitlines():
        if open_block is None:
            if line.startswith("#"):
                heading = line.lstrip("# ")
            elif match := FENCE.match(line):
                open_block, lines = match, []
        elif line == "```":
            found.append(Block(open_block[1], open_block[2], heading, "\n".join(lines)))
            open_block = None
        else:
            lines.append(line)
    assert open_block is None, f"{path.name}: a block under {heading} is never closed"
    return tuple(found)


@cache
def prose(path: Path = README) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def section(heading: str, path: Path = README) -> str:
    """What stands under a heading, up to the next of the same rank or higher."""
    match = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", prose(path), re.MULTILINE | re.DOTALL
    )
    assert match, f"{path.name} has no heading {heading!r}"
    return match[2]


def rows(heading: str, first: str, path: Path = README) -> list[list[str]]:
    """The cells of the table under that heading whose first column is called `first`."""
    tables = [list(table) for table in _tables(section(heading, path))]
    for header, *body in tables:
        if header[0] == first:
            return body
    raise AssertionError(f"{heading}: no table begins with {first!r}")


def ticked(text: str) -> list[str]:
    """The words in backticks."""
    return TICKED.findall(text)


def links(path: Path = README) -> list[str]:
    """Where the links of a page lead."""
    return LINK.findall(prose(path))


def _tables(text: str) -> Iterator[list[list[str]]]:
    for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        lines = [_cells(line) for line in table.splitlines()]
        yield [lines[0], *lines[2:]]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
