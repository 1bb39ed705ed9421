"""What a host says costs no more to understand because it was made to cost."""

import re
import time
from collections.abc import Callable

import pytest

from app.automation import causes
from app.automation.causes import HOST, LOGIN, classify

SIZE = 1_000_000
PART = 200_000
ONE_LOOK = re.compile("never said", re.IGNORECASE)
BEGINNINGS = (
    "Load key ",
    'Load key "',
    "This account ",
    "module interpreter ",
    "Permission denied (",
    "Connection closed by ",
    "Connection reset by ",
    "Connection to ",
    "connect to host ",
    "Timeout, server ",
    "reached over ssh: ",
    "reached over ssh:" + 50 * " ",
    "python3.9.9",
    "sudo: ",
    "Task failed: ",
)
PATTERNS = [candidate.words for candidate in (*LOGIN, *HOST)] + [causes.KEY_FILE, causes.PREAMBLE]


def cost(work: Callable[[], object], tries: int = 3) -> float:
    """CPU seconds of the cheapest try."""
    took = []
    for _ in range(tries):
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return min(took)


def repeated(words: str) -> str:
    return (words * (SIZE // len(words) + 1))[:SIZE]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_megabyte_made_of_beginnings_is_understood_as_fast_as_any_other(beginning: str) -> None:
    result = {"unreachable": True, "rc": 255, "msg": repeated(beginning)}
    plain = {"unreachable": True, "rc": 255, "msg": repeated("z" * len(beginning))}

    trap, without = cost(lambda: classify(result)), cost(lambda: classify(plain))

    assert trap < 50 * without


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:30])
def test_a_pattern_looks_a_bounded_way_further_from_each_beginning(
    pattern: re.Pattern[str],
) -> None:
    # an anchored pattern does not look at the text at all, so what one look at it costs is added
    plain = cost(lambda: (pattern.search("z" * PART), ONE_LOOK.search("z" * PART)))

    for beginning in BEGINNINGS:
        trap = repeated(beginning)[:PART]
        # what is quadratic would take more than ten thousand times as long
        assert cost(lambda: pattern.search(trap), tries=1) < 500 * plain, beginning  # noqa: B023


def test_words_at_either_end_of_a_long_text_still_tell_the_cause() -> None:
    first = {"unreachable": True, "msg": "Permission denied (publickey).\n" + repeated("z")}
    last = {"unreachable": True, "msg": repeated("z") + "\nPermission denied (publickey)."}

    assert classify(first)[0] is classify(last)[0] is causes.Cause.AUTH
