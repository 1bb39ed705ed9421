"""Graphs have an order, slices align, barriers hold, circles are refused."""

from collections import defaultdict
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidRequest
from app.domain.graph import (
    Cyclic,
    Graph,
    Standing,
    connect_slices,
    is_ready,
    stand,
    subtask_capability,
    task_capability,
)
from app.domain.states import (
    Direction,
    Operation,
    Status,
    SubtaskStatus,
    TaskStatus,
    Undo,
)


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


def standing(graph: Graph[int], done: Collection[int], *, barriers: bool) -> dict[int, Standing]:
    """Each node has one part: done, or waiting."""
    return {
        node: Standing(node not in done, node in done, node in done, is_barrier=barriers)
        for node in graph.nodes
    }


@given(acyclic(), st.booleans())
def test_promotion_reaches_every_node(graph: Graph[int], barriers: bool) -> None:
    done: set[int] = set()
    while ready := graph.promotable(standing(graph, done, barriers=barriers)):
        assert not ready & done
        assert all(not barriers or done.issuperset(graph.upstreams(node)) for node in ready)
        done |= ready

    assert done == set(graph.nodes)


@given(acyclic())
def test_rollback_goes_the_other_way_round(graph: Graph[int]) -> None:
    back: list[int] = []
    while ready := graph.rollback_ready(standing(graph, back, barriers=True)):
        back.extend(ready)

    place = {node: index for index, node in enumerate(back)}
    assert len(place) == len(graph.nodes)
    assert all(place[down] < place[up] for up, down in graph.edges)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[int, list[list[tuple[Status, Undo | None]]]]:
    """The size of a slice, and for each target what its parts say, stage by stage."""
    stages = draw(st.integers(1, 4))
    part = st.tuples(st.sampled_from(Status), st.none() | st.sampled_from(Undo))
    target = st.lists(part, min_size=stages, max_size=stages)
    return draw(st.integers(1, 3)), draw(st.lists(target, min_size=1, max_size=7))


@given(tasks(), st.sampled_from(Direction))
def test_the_graph_passes_over_no_ready_part(
    task: tuple[int, list[list[tuple[Status, Undo | None]]]], direction: Direction
) -> None:
    size, targets = task
    stages = len(targets[0])
    of: dict[tuple[int, int], set[Status | Undo | None]] = defaultdict(set)
    ready = set()
    for number, target in enumerate(targets):
        for stage, (status, undo) in enumerate(target):
            subtask = (stage, number // size)
            of[subtask].add(status if direction is Direction.FORWARD else undo)
            if direction is Direction.FORWARD:
                beside = target[stage - 1][0] if stage else None
            else:
                beside = target[stage + 1][1] if stage + 1 < stages else None
            if is_ready(direction, status, undo, beside):
                ready.add(subtask)
    layers = [{at: (stage, at) for s, at in of if s == stage} for stage in range(stages)]
    graph = Graph(tuple(of), connect_slices(layers, [False] * stages))
    standings = {subtask: stand(direction, said, False) for subtask, said in of.items()}

    chosen = (
        graph.promotable(standings)
        if direction is Direction.FORWARD
        else graph.rollback_ready(standings)
    )

    assert chosen >= ready


@pytest.mark.parametrize(
    ("earlier", "is_let_on"),
    [
        ({Status.SUCCESS, Status.FAILED}, True),
        ({Status.SUCCESS, Status.RUNNING}, False),
        ({Status.SUCCESS, Status.PENDING}, False),
        ({Status.FAILED, Status.IGNORED}, True),
    ],
)
def test_behind_a_barrier_all_must_have_ended(earlier: set[Status], is_let_on: bool) -> None:
    graph = Graph(("a", "b", "c"), (("a", "c"), ("b", "c")))
    of = {
        "a": stand(Direction.FORWARD, {Status.SUCCESS}, is_barrier=False),
        "b": stand(Direction.FORWARD, earlier, is_barrier=False),
        "c": stand(Direction.FORWARD, {Status.PENDING}, is_barrier=True),
    }

    assert ("c" in graph.promotable(of)) is is_let_on


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
