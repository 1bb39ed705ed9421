"""Events give progress, statistics the verdict, and without statistics only proof counts."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.automation.events import (
    NOT_OURS,
    Event,
    HostResult,
    HostStarted,
    Outcome,
    Output,
    Statistics,
    read,
)
from app.domain.states import Cause
from tests.automation.recordings import RECORDINGS, events, raw_events, verdict


def results(name: str, host_id: int) -> list[HostResult]:
    return [e for e in events(name) if isinstance(e, HostResult) and e.host_id == host_id]


def without_statistics(name: str) -> list[Event]:
    return [event for event in events(name) if not isinstance(event, Statistics)]


# --- Reading --------------------------------------------------------------------------------


def test_what_a_module_returns_arrives_without_noise() -> None:
    [result] = results("ok", 1)

    assert result.status == "ok"
    assert set(result.result) == {"changed", "cause", "reason", "phases", "before"}
    assert (result.cause, result.reason) == (None, "")


def test_a_start_names_host_and_task() -> None:
    starts = [event for event in events("ok") if isinstance(event, HostStarted)]

    assert {(s.host_id, s.task) for s in starts} == {
        (1, "Do something in phases"),
        (2, "Do something in phases"),
    }


def test_ignored_errors_are_not_failures() -> None:
    ignored = [result for result in results("mixed", 1) if result.ignored]

    assert [(r.task, r.status, r.is_bad) for r in ignored] == [
        ("Fail and be ignored", "failed", False)
    ]


def test_a_skipped_task_is_a_result() -> None:
    assert "skipped" in {result.status for result in results("mixed", 1)}


def test_items_are_told_by_their_task_alone() -> None:
    assert len([r for r in results("mixed", 1) if r.task == "Loop"]) == 1


def test_secrets_of_no_log_are_in_no_event() -> None:
    assert "hush" not in str(events("mixed"))
    [secret] = [r for r in results("mixed", 1) if r.task == "Keep a secret"]
    assert "censored" in secret.result


def test_statistics_are_read() -> None:
    [statistics] = [event for event in events("mixed") if isinstance(event, Statistics)]

    assert statistics.processed == {1, 2}
    assert statistics.failed == {2}
    assert statistics.rescued == {1, 2}


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("*.jsonl")))
def test_output_is_plain_text(name: str) -> None:
    text = "".join(event.text for event in events(name) if isinstance(event, Output))

    assert text
    assert "\r" not in text
    assert "\x1b" not in text


def test_output_of_a_host_names_it() -> None:
    mine = [event for event in events("wrong_key") if isinstance(event, Output) and event.host_id]

    assert "UNREACHABLE" in "".join(event.text for event in mine if event.host_id == 1)


def test_colours_and_line_ends_go() -> None:
    [output] = read({"event": "verbose", "stdout": "\x1b[0;31mred\x1b[0m\r\nline"})

    assert isinstance(output, Output)
    assert output.text == "red\nline\n"


def test_a_host_that_is_not_ours_is_nobody() -> None:
    raw = {"event": "runner_on_ok", "event_data": {"host": "localhost", "res": {}}}

    [result] = read(raw)

    assert isinstance(result, HostResult)
    assert result.host_id == NOT_OURS
    assert verdict([result]).outside_limit == {NOT_OURS}


@pytest.mark.parametrize("raw", [{}, {"event": "EOF"}, {"event": "new_in_2030"}])
def test_what_says_nothing_is_nothing(raw: dict[str, str]) -> None:
    assert list(read(raw)) == []


# --- The verdict ----------------------------------------------------------------------------


def test_a_rescued_host_is_fine() -> None:
    assert verdict(events("mixed")).proven_ok == {1}


def test_statistics_give_the_verdict() -> None:
    told = verdict(events("module_refuses"))

    assert told.proven_ok == set()
    assert told.failed.keys() == {1, 2}


def test_a_host_nobody_mentions_is_not_started() -> None:
    told = verdict(events("ok"), 1, 2, 3)

    assert (told.proven_ok, told.not_started) == ({1, 2}, {3})


def test_without_statistics_phases_prove() -> None:
    told = verdict(without_statistics("ok"), outcome="error")

    assert told.proven_ok == {1, 2}


def test_without_statistics_a_host_at_work_is_not_proven() -> None:
    said = without_statistics("ok")
    again = next(event for event in said if isinstance(event, HostStarted))

    told = verdict([*said, again], outcome="stopped")

    assert told.failed[again.host_id][0] is Cause.CANCELLED
    assert len(told.proven_ok) == 1


def test_without_statistics_a_good_result_without_phases_proves_nothing() -> None:
    told = verdict(without_statistics("mixed"), outcome="error")

    assert told.proven_ok == set()
    assert told.failed[1][0] is Cause.LOST


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [("stopped", Cause.CANCELLED), ("timeout", Cause.TIMEOUT), ("error", Cause.LOST)],
)
def test_a_host_that_was_started_says_why_it_is_not_finished(
    outcome: Outcome, cause: Cause
) -> None:
    said = [event for event in events("ok") if isinstance(event, HostStarted)]

    assert {found for found, _ in verdict(said, outcome=outcome).failed.values()} == {cause}


def prefix(name: str) -> Callable[[int], list[Event]]:
    said = events(name)
    return lambda length: said[:length]


@given(
    name=st.sampled_from(["ok", "mixed", "wrong_key", "module_refuses", "cut", "syntax_error"]),
    cut=st.integers(0, 60),
    limit=st.sets(st.integers(1, 4), min_size=1),
)
def test_every_host_of_the_limit_is_told_once(name: str, cut: int, limit: set[int]) -> None:
    """Wherever the events break off, the hosts add up."""
    told = verdict(prefix(name)(cut), *limit)

    groups = [told.proven_ok, frozenset(told.failed), told.not_started]
    assert sum(len(group) for group in groups) == len(limit)
    assert frozenset().union(*groups) == limit


def test_a_raw_event_is_read_alike_whatever_its_order_of_keys() -> None:
    for raw in raw_events("mixed"):
        backwards = dict(reversed(raw.items()))
        assert list(read(backwards)) == list(read(raw)) or not raw.get("created")
