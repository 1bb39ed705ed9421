"""Subtasks and their edges as a graph: order, readiness, rollback, and what may be done now."""

from collections import defaultdict, deque
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.domain.errors import InvalidRequest
from app.domain.states import (
    Direction,
    Operation,
    Status,
    SubtaskStatus,
    TaskStatus,
    Undo,
)

N = TypeVar("N", bound=Hashable)


class Cyclic(InvalidRequest):
    """These stages wait for each other in a circle."""


@dataclass(frozen=True)
class Graph(Generic[N]):
    """Nodes in creation order, and who waits for whom."""

    nodes: tuple[N, ...]
    edges: tuple[tuple[N, N], ...]  # (upstream, downstream)
    _up: Mapping[N, tuple[N, ...]] = field(init=False, repr=False, compare=False)
    _down: Mapping[N, tuple[N, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        up, down = defaultdict(list), defaultdict(list)
        known = set(self.nodes)
        for upstream, downstream in self.edges:
            if upstream not in known or downstream not in known:
                raise InvalidRequest(f"An edge names {upstream!r} → {downstream!r}: no such node.")
            up[downstream].append(upstream)
            down[upstream].append(downstream)
        object.__setattr__(self, "_up", {node: tuple(up[node]) for node in self.nodes})
        object.__setattr__(self, "_down", {node: tuple(down[node]) for node in self.nodes})

    def upstreams(self, node: N) -> tuple[N, ...]:
        return self._up[node]

    def downstreams(self, node: N) -> tuple[N, ...]:
        return self._down[node]

    def in_order(self) -> tuple[N, ...]:
        """Every node after all its upstreams, in linear time; a circle is refused."""
        waiting = {node: len(set(self._up[node])) for node in self.nodes}
        ready = deque(node for node in self.nodes if not waiting[node])
        order: list[N] = []
        while ready:
            node = ready.popleft()
            order.append(node)
            for follower in set(self._down[node]):
                waiting[follower] -= 1
                if not waiting[follower]:
                    ready.append(follower)
        if len(order) < len(self.nodes):
            raise Cyclic(stuck=[node for node in self.nodes if waiting[node]])
        return tuple(order)

    def promotable(self, of: Mapping[N, "Standing"]) -> set[N]:
        """The waiting nodes of which something may begin.

        Behind a barrier all upstreams must have ended; elsewhere one that lets a host on will do.
        """
        return {n for n in self.nodes if _may_follow(of[n], [of[u] for u in self._up[n]])}

    def rollback_ready(self, of: Mapping[N, "Standing"]) -> set[N]:
        """The waiting nodes of which something can be taken back: what came after it is back."""
        return {n for n in self.nodes if _may_follow(of[n], [of[d] for d in self._down[n]])}


@dataclass(frozen=True)
class Standing:
    """What a subtask's neighbours must know of its parts."""

    waits: bool  # some part of it is still to be done, or to be taken back
    lets_on: bool  # some part of it is done, or back
    has_ended: bool  # none waits or runs
    is_barrier: bool = False  # everything before it must end first


def _may_follow(standing: Standing, before: Collection[Standing]) -> bool:
    if not standing.waits or not before:
        return standing.waits
    if standing.is_barrier and not all(one.has_ended for one in before):
        return False
    return any(one.lets_on for one in before)


def stand(
    direction: Direction, said: Collection[Status] | Collection[Undo | None], is_barrier: bool
) -> Standing:
    """How a subtask stands whose parts say this: their statuses, or on the way back their undos."""
    if direction is Direction.BACK:
        is_due = Undo.DUE in said
        return Standing(waits=is_due, lets_on=None in said, has_ended=not is_due)
    waits = Status.PENDING in said
    return Standing(
        waits=waits,
        lets_on=Status.SUCCESS in said,
        has_ended=not waits and Status.RUNNING not in said,
        is_barrier=is_barrier,
    )


def is_ready(
    direction: Direction, status: Status, undo: Undo | None, beside: Status | Undo | None
) -> bool:
    """Whether a part's turn has come; `beside` is said by its target's part before it.

    Forward, that is the earlier stage's status: proven OK, or None where there is no such stage.
    Back, it is the later stage's undo: None when that is back, or was never there.
    """
    if direction is Direction.BACK:
        return undo is Undo.DUE and status is not Status.RUNNING and beside is None
    return status is Status.PENDING and beside in (None, Status.SUCCESS)


def connect_slices(
    stages: Iterable[Mapping[int, N]], barriers: Iterable[bool]
) -> tuple[tuple[N, N], ...]:
    """Edges between consecutive stages: slice k to slice k, or all to all before a barrier."""
    edges: list[tuple[N, N]] = []
    previous: Mapping[int, N] = {}
    for slices, barrier in zip(stages, barriers, strict=True):
        for index, node in slices.items():
            sources = previous.values() if barrier else filter(None, [previous.get(index)])
            edges.extend((source, node) for source in sources)
        previous = slices
    return tuple(edges)


@dataclass(frozen=True)
class Capability:
    """Whether an operation is allowed now, and if not, why not and when it would be."""

    allowed: bool
    reason: str = ""
    allowed_states: tuple[SubtaskStatus, ...] = ()


ALLOWED_IN = {
    Operation.RETRY: (SubtaskStatus.FAILED,),
    Operation.SKIP: (SubtaskStatus.FAILED,),
    Operation.CANCEL: (SubtaskStatus.READY, SubtaskStatus.RUNNING),
}

# what callers know by another name when a whole task is meant
TASK_OPERATION = {Operation.CANCEL: "ABORT"}

ABORTED = "This task was aborted; its failure is accepted and nothing follows. Start a new job."


def subtask_capability(
    operation: Operation,
    status: SubtaskStatus,
    direction: Direction = Direction.FORWARD,
    *,
    is_aborted: bool = False,
) -> Capability:
    """May this be done to a subtask in that state (contracts/ocp-tasks.md §2.1, §8)?"""
    states = ALLOWED_IN[operation]
    if is_aborted:
        return Capability(False, ABORTED)
    if status in states:
        return Capability(True, allowed_states=states)
    names = ", ".join(state.name for state in states)
    return Capability(
        False, f"{operation.name} needs a subtask that is {names}; it is {status.name}.", states
    )


def task_capability(
    operation: Operation,
    status: TaskStatus,
    direction: Direction,
    prohibits_rollback: bool,
    *,
    is_aborted: bool = False,
) -> Capability:
    """May this be done to a whole task? CANCEL means: accept its failure and end it."""
    if is_aborted:
        return Capability(False, ABORTED)
    if status is not TaskStatus.FAILED:
        name = TASK_OPERATION.get(operation, operation.name)
        return Capability(False, f"{name} needs a task that is FAILED; it is {status.name}.")
    if operation is Operation.ROLLBACK and prohibits_rollback:
        return Capability(False, "A step of this task that has begun cannot be taken back.")
    return Capability(True)
