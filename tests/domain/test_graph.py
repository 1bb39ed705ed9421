"""Graphs have an order, slices align, barriers hold, circles are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidRequest
from app.domain.graph import (
    Cyclic,
    Graph,
    connect_slices,
    subtask_capability,
    task_capability,
)
from app.domain.states import Direction, Operation, SubtaskStatus, TaskStatus


@st.composite
def acyclic(draw: st.DrawFn) -> Graph[int]:
    count = draw(st.integers(1, 12))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    renamed = draw(st.permutations(range(count)))
    return Graph(tuple(renamed), tuple((renamed[a], renamed[b]) for a, b in edges))


@given(acyclic())
def test_every_node_comes_after_its_upstreams(graph: Graph[int]) -> None:
    place = {node: index for index, node in enumerate(graph.in_order())}

    assert len(place) == len(graph.nodes)
    assert all(place[up] < place[down] for up, down in graph.edges)


@given(acyclic())
def test_promotion_reaches_every_node(graph: Graph[int]) -> None:
    done: set[int] = set()
    while ready := graph.promotable(
        set(graph.nodes).difference(done).__contains__, done.__contains__
    ):
        done |= ready

    assert done == set(graph.nodes)


@given(acyclic())
def test_rollback_goes_the_other_way_round(graph: Graph[int]) -> None:
    back: list[int] = []
    while ready := graph.rollback_ready(
        set(graph.nodes).difference(back).__contains__, back.__contains__
    ):
        back.extend(ready)

    place = {node: index for index, node in enumerate(back)}
    assert len(place) == len(graph.nodes)
    assert all(place[down] < place[up] for up, down in graph.edges)


def test_a_long_chain_of_diamonds_is_ordered_at_once() -> None:
    edges = [(3 * i, 3 * i + k) for i in range(3000) for k in (1, 2)]
    edges += [(3 * i + k, 3 * i + 3) for i in range(3000) for k in (1, 2)]

    assert len(Graph(tuple(range(9001)), tuple(edges)).in_order()) == 9001


def test_a_circle_is_refused_with_its_nodes() -> None:
    with pytest.raises(Cyclic) as refusal:
        Graph(("a", "b", "c"), (("a", "b"), ("b", "c"), ("c", "b"))).in_order()

    assert refusal.value.details["stuck"] == ["b", "c"]


def test_an_edge_to_nowhere_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no such node"):
        Graph((1,), ((1, 2),))


def test_slices_of_consecutive_stages_align() -> None:
    edges = connect_slices([{0: "a0", 1: "a1"}, {0: "b0", 1: "b1"}], [False, False])

    assert set(edges) == {("a0", "b0"), ("a1", "b1")}


def test_before_a_barrier_every_slice_must_end() -> None:
    edges = connect_slices([{0: "a0", 1: "a1"}, {0: "b0", 1: "b1"}], [False, True])

    assert len(edges) == 4


@pytest.mark.parametrize("operation", [Operation.RETRY, Operation.SKIP, Operation.CANCEL])
@pytest.mark.parametrize("status", list(SubtaskStatus))
def test_a_refusal_names_the_state_and_the_allowed_ones(
    operation: Operation, status: SubtaskStatus
) -> None:
    capability = subtask_capability(operation, status)

    assert capability.allowed == (status in capability.allowed_states)
    if not capability.allowed:
        assert status.name in capability.reason
        assert all(state.name in capability.reason for state in capability.allowed_states)


def test_rollback_of_what_cannot_be_taken_back_is_refused_early() -> None:
    capability = task_capability(
        Operation.ROLLBACK, TaskStatus.FAILED, Direction.FORWARD, prohibits_rollback=True
    )

    assert not capability.allowed
    assert "cannot be taken back" in capability.reason


def test_a_whole_task_is_aborted_not_cancelled() -> None:
    capability = task_capability(
        Operation.CANCEL, TaskStatus.RUNNING, Direction.FORWARD, prohibits_rollback=False
    )

    assert capability.reason == "ABORT needs a task that is FAILED; it is RUNNING."
