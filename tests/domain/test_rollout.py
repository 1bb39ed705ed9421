"""Waves take every host exactly once; what does not add up is refused with the reason."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.rollout import Rollout, RolloutInvalid, dump_rollout, parse_rollout

ENDS = st.sets(st.integers(1, 99), max_size=5).map(lambda ends: (*sorted(ends), 100))
ROLLOUTS = st.builds(
    Rollout,
    canary=st.integers(0, 20),
    batches=ENDS,
    max_failed=st.none() | st.integers(0, 100),
    in_percent=st.just(False),
    soak=st.integers(0, 1000).map(lambda seconds: timedelta(seconds=seconds)),
    confirm=st.booleans(),
)


@given(ROLLOUTS, st.integers(1, 5000))
def test_every_host_is_in_exactly_one_wave(rollout: Rollout, total: int) -> None:
    waves = rollout.waves(total)

    assert sum(waves) == total
    assert all(size > 0 for size in waves)


@given(ROLLOUTS.filter(lambda rollout: rollout.canary > 0), st.integers(1, 5000))
def test_the_canary_goes_first(rollout: Rollout, total: int) -> None:
    assert rollout.waves(total)[0] == min(rollout.canary, total)


@given(ROLLOUTS)
def test_what_is_written_down_reads_back(rollout: Rollout) -> None:
    assert parse_rollout(dump_rollout(rollout)) == rollout


def test_the_example_of_the_documentation() -> None:
    rollout = parse_rollout(
        {"canary": 1, "batches": ["10%", "50%", "100%"], "max_failed": "5%", "soak_seconds": 60}
    )

    assert rollout.waves(200) == (1, 19, 80, 100)
    assert rollout.allowed_failures(200) == 10


def test_a_canary_that_fails_stops_the_rollout_whatever_the_threshold() -> None:
    rollout = Rollout(canary=1, max_failed=50, in_percent=True)

    assert "canary" in (rollout.must_stop(1, 100, is_canary=True) or "")
    assert rollout.must_stop(1, 100, is_canary=False) is None
    assert rollout.must_stop(51, 100, is_canary=False) == "51 of 100 hosts failed, at most 50 may"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], "is an object"),
        ({"batches": []}, "a list"),
        ({"batches": "100%"}, "a list"),
        ({"batches": ["50%"]}, "end at 100%"),
        ({"batches": ["50%", "10%", "100%"]}, "must grow"),
        ({"batches": ["0%", "100%"]}, "from 1%"),
        ({"batches": [50, 100]}, "percentages"),
        ({"canary": -1}, "rollout.canary"),
        ({"canary": True}, "rollout.canary"),
        ({"canary": "many"}, "rollout.canary"),
        ({"max_failed": "200%"}, "at most 100%"),
        ({"soak_seconds": 10**8}, "soak_seconds"),
        ({"confirm": "yes"}, "confirm"),
        ({"canaries": 1}, "canaries"),
    ],
)
def test_a_rollout_that_does_not_add_up_is_refused(raw: Any, says: str) -> None:
    with pytest.raises(RolloutInvalid, match=says):
        parse_rollout(raw)
