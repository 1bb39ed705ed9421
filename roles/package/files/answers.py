"""Take what a host says: find its answer, cut what is too long, and drop what controls a terminal.

Run here, by the action plugin and by Hostler; nothing in it is told to a host.
"""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any

MOST_SAID = 2**20  # bytes of one stream of one call; who says more is not heard to the end
TOO_MUCH = 4096  # in place of an exit code, where no process can have one: it said more than that
MOST_KEPT = 64 * 1024  # characters of one text
MOST_NAME = 256  # of a member's name
MOST_MEMBERS = 1000  # of one list or object
DEEPEST = 12  # lists and objects within each other
LARGEST = 2**53  # beyond it, readers of JSON round whole numbers
CUT = "\n[… {left_out} characters were left out here …]\n"

# Single characters: those of C0 and C1 but tab and new line, those that turn the direction of
# writing, and halves of characters, which no database keeps. And escape sequences, whole.
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|" + CONTROL.pattern
)


def plain(text: str) -> str:
    """The text as a person may read it and a database keep it."""
    if text.isprintable() or not CONTROL.search(text):
        return text
    return CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, most: int = MOST_KEPT) -> str:
    """Its beginning and its end, when it is longer than that, and how much is missing between."""
    if len(text) <= most:
        return text
    half = most // 2
    return text[:half] + CUT.format(left_out=len(text) - 2 * half) + text[-half:]


def kept(text: str, most: int = MOST_KEPT) -> str:
    """A host's words, plain and bounded."""
    return plain(shorten(text, most))  # cut first: the rest costs what it is long


def bounded(value: Any, depth: int = DEEPEST) -> Any:
    """A value made of what JSON has, bounded in every way, its texts plain."""
    if isinstance(value, str):
        return value if len(value) <= MOST_NAME and value.isprintable() else kept(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -LARGEST <= value <= LARGEST else None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        members = islice(value.items(), MOST_MEMBERS)
        return {_name(name): bounded(member, depth - 1) for name, member in members}
    if isinstance(value, (list, tuple)):
        return [bounded(member, depth - 1) for member in value[:MOST_MEMBERS]]
    return kept(str(value))


def _name(name: Any) -> str:
    text = str(name)
    return text if len(text) <= MOST_NAME and text.isprintable() else kept(text, MOST_NAME)


# --- The answer of our program -----------------------------------------------------------------

# What the host's program answers. Whoever reads it may rely on that: a host whose Python says
# something else must not break what is written together with the answers of other hosts, nor tell
# Ansible of facts or hosts.
TEXT, OBJECT = (str, type(None)), (dict, type(None))
ANSWER: dict[str, Any] = {
    "changed": bool, "failed": bool, "restored": bool, "released": bool,
    "msg": str, "reason": TEXT, "cause": TEXT, "holder": str, "standing_key": TEXT,
    "phases": list, "before": OBJECT, "after": OBJECT, "diff": list,
}  # fmt: skip
PHASE = {"key": str, "status": str, "changed": bool, "log": str, "seconds": (int, float)}
FOUND: dict[str, Any] = {
    "release": OBJECT, "running": bool, "config_sha256": TEXT, "pid": (int, type(None)),
    "cpu_arch": str, "os_version": str, "hostname": str, "standing_key": (bool, type(None)),
}  # fmt: skip
RELEASE = {"version": str, "sha256": str, "path": str}
LONGEST = 10**6  # seconds of a phase
NOT_OURS = "The host's answer is not one our program gives: {}"


class NotAnAnswer(ValueError):
    """What the host said is no answer of our program."""


def between(text: str, mark: str) -> str | None:
    """What our program answered: it stands between two marks that nothing else on a host knows.

    A profile, a banner or a trap may print what it likes before and after.
    """
    begin = text.find(mark)
    end = text.find(mark, begin + len(mark)) if begin >= 0 else -1
    return text[begin + len(mark) : end] if end >= 0 else None


def read_answer(text: str) -> dict[str, Any]:
    """The host's answer, when it has the shape of one; what else it says is dropped."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAnAnswer(NOT_OURS.format("it is no JSON")) from None
    return bounded(checked(said))  # type: ignore[no-any-return]


def checked(said: Any) -> dict[str, Any]:
    """What is known of an answer, when all of it is of the right kind."""
    answer = _known("the answer", ANSWER, said)
    phases = answer.get("phases")
    if phases is None:
        raise NotAnAnswer(NOT_OURS.format("it has no phases"))
    if len(phases) > MOST_MEMBERS:
        raise NotAnAnswer(NOT_OURS.format("it has too many phases"))
    answer["phases"] = [_known("a phase", PHASE, phase, whole=True) for phase in phases]
    for phase in answer["phases"]:
        if not 0 <= phase["seconds"] <= LONGEST:  # NaN is not between any two either
            raise NotAnAnswer(NOT_OURS.format("a phase's seconds are no length of time"))
    for name in ("before", "after"):
        if answer.get(name) is not None:
            answer[name] = found = _known(name, FOUND, answer[name])
            if found.get("release") is not None:
                found["release"] = _known("the release", RELEASE, found["release"], whole=True)
    return answer


def _known(what: str, shape: dict[str, Any], said: Any, *, whole: bool = False) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise NotAnAnswer(NOT_OURS.format(f"{what} is no object"))
    missing = shape.keys() - said.keys()
    if whole and missing:
        raise NotAnAnswer(NOT_OURS.format(f"{what} has no {min(missing)}"))
    for name, kind in shape.items():
        if name in said and not isinstance(said[name], kind):
            raise NotAnAnswer(NOT_OURS.format(f"{name} of {what} is of the wrong kind"))
    return {name: said[name] for name in shape if name in said}
