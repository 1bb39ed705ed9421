"""Whatever a host says is plain and bounded before anybody reads, matches, shows or stores it."""

import json
import math
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.automation.events import HostResult, Output, read
from app.automation.said import bounded, kept, shorten

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text(st.characters(codec=None)))
def test_plain_text_controls_nothing_and_can_be_stored(text: str) -> None:
    said = kept(text)

    said.encode()
    assert not set(said) & {*map(chr, range(32)), *map(chr, range(127, 160))} - {"\t", "\n"}
    assert not set(said) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert kept(said) == said


@pytest.mark.parametrize(
    "text", ["", "plain", "two\nlines\n", "\ttab", "密码 é ü", "a\u200db 👩‍🚒"]
)
def test_what_people_write_stays(text: str) -> None:
    assert kept(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r20%\r\nend", "10%\n20%\nend"),
        ("\x1b[K" + "QUJD\x1b[4D" + "\x1b[K", "QUJD"),
    ],
)
def test_escape_sequences_go_whole(text: str, plain: str) -> None:
    assert kept(text) == plain


@given(st.text(max_size=400), st.integers(2, 100))
def test_a_cut_says_how_much_is_missing(text: str, most: int) -> None:
    said = shorten(text, most)

    if len(text) <= most:
        assert said == text
    else:
        missing = len(text) - 2 * (most // 2)
        assert f"{missing} characters were left out" in said
        assert said.startswith(text[: most // 2])
        assert said.endswith(text[-(most // 2) :])


@given(ANYTHING)
def test_anything_becomes_what_json_has_and_every_database_keeps(value: Any) -> None:
    text = json.dumps(bounded(value), allow_nan=False, ensure_ascii=False)

    text.encode()
    assert "\\u0000" not in text


def test_depth_width_and_numbers_have_bounds() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    said = bounded({"deep": deep, "wide": list(range(10**5)), "inf": math.inf, "big": 10**400})

    assert len(said["wide"]) == 1000
    assert (said["inf"], said["big"]) == (None, None)
    assert len(json.dumps(said["deep"])) < 100


# --- Events ----------------------------------------------------------------------------------


def failing(**result: Any) -> dict[str, Any]:
    data = {"host": "host_1", "task": "t", "res": result}
    return {"event": "runner_on_unreachable", "event_data": data, "stdout": ""}


MALFORMED: list[dict[str, Any]] = [
    {},
    {"event": None},
    {"event": ["runner_on_ok"]},
    {"event": "runner_on_start"},
    {"event": "runner_on_start", "event_data": 5, "created": 7, "stdout": {}},
    {"event": "runner_on_ok", "event_data": {"host": "host_1", "res": 5}},
    {"event": "runner_on_ok", "event_data": {"host": "host_1", "res": {"phases": 5}}},
    {"event": "runner_on_ok", "event_data": {"host": "host_1", "res": {"phases": [{}]}}},
    {"event": "runner_on_failed", "event_data": {"host": "host_1", "res": {"cause": []}}},
    {"event": "runner_on_ok", "event_data": {"host": "host_" + "9" * 5000, "res": {}}},
    {"event": "playbook_on_stats", "event_data": {"ok": 5}},
    {"event": "runner_on_ok", "created": "never", "event_data": {"host": ["x"], "res": {}}},
]


@pytest.mark.parametrize("raw", MALFORMED)
def test_a_malformed_event_raises_nothing(raw: dict[str, Any]) -> None:
    for event in read(raw):
        assert isinstance(event.at, datetime)


def test_a_result_that_cannot_be_read_is_its_hosts_failure() -> None:
    (result,) = read({"event": "runner_on_ok", "event_data": {"host": "host_1", "res": 5}})

    assert isinstance(result, HostResult)
    assert (result.host_id, result.is_bad, result.is_unreadable) == (1, True, True)


def test_what_is_printed_for_an_event_is_cleaned_and_bounded() -> None:
    at = datetime.now(UTC).isoformat()
    (said,) = read({"event": "verbose", "created": at, "stdout": "\x1b[31m" + "x" * 10**6 + "END"})

    assert isinstance(said, Output)
    assert len(said.text) < 100_000
    assert said.text.endswith("END\n")
    assert "\x1b" not in said.text


def test_what_is_matched_is_cut_first() -> None:
    """Thirty times as much of the worst text costs about as much: it is not looked at."""
    some, much = ("Load key " * count for count in (4_000, 120_000))

    def cost(text: str) -> float:
        began = time.process_time()
        for _ in range(3):
            (result,) = read(failing(msg=text, module_stderr=text))
            assert isinstance(result, HostResult)
            assert len(result.reason) < 10_000
        return time.process_time() - began

    cost(some)
    assert cost(much) < 8 * cost(some)
