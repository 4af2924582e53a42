"""Graphs: nodes and edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry

#: Steps a run may take where its graph does not say.
DEFAULT_MAX_STEPS = 1_000

#: Items of a map that run at the same time where it does not say, and the most that it may say.
DEFAULT_CONCURRENCY = 8
MAX_CONCURRENCY = 1_000

#: Attempts in a sandbox that a retry may ask for.
MAX_ATTEMPTS = 100


class NodeType(StrEnum):
    """What a node does."""

    START = "start"
    END = "end"
    STANDARD = "standard"
    LOOP = "loop"
    SUBGRAPH = "subgraph"
    MAP = "map"
    WAIT = "wait"


class OnMax(StrEnum):
    """What a loop does when its condition still holds after its last iteration."""

    EXIT = "exit"
    FAIL = "fail"


class OnError(StrEnum):
    """What becomes of a run in which a node failed that no edge leaves for that."""

    FAIL_FAST = "fail_fast"
    FINISH = "finish"


class Outcome(StrEnum):
    """What may become of a node, as its edges ask for it; the values are those of a node run's status."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"


#: What an edge asks for that does not say.
ON_SUCCESS = frozenset({Outcome.SUCCEEDED})


@dataclass(frozen=True, slots=True)
class Condition:
    """A Python expression over ``state``, or the name of a registered function; exactly one is set."""

    expression: str | None = None
    function: str | None = None

    def __str__(self) -> str:
        """Render the expression, or the function's name with parentheses."""
        return self.expression if self.expression is not None else f"{self.function}()"


@dataclass(frozen=True, slots=True)
class Node:
    """A step of a graph.

    Attributes:
        name: Unique in its graph.
        type: What it does.
        function: Name of the registered function it runs; a standard node without one only joins and routes.
        condition: A loop's: asked before each iteration.
        max_iterations: A loop's bound, counted per entry.
        on_max: What becomes of a loop that reaches its bound.
        join: How many of its inputs it waits for, the first that come; without it, for each that is not skipped.
        limits: Of each attempt's sandbox.
        retry: What becomes of a failed attempt.
        items: A map's: key of the list whose items it runs its function for.
        into: Key that gets a map's results, or the payload of the event that a wait waited for; without it, a wait's
            payload goes under the event's name.
        max_concurrency: Items of a map that run at the same time.
        event: Name of the event that a wait waits for; without it, the wait ends when its time is over.
        timeout_s: Longest that a wait, a map or a subgraph takes.
        graph_id: The graph version that a subgraph runs.
        inputs: What a subgraph sees: its keys, each with the key outside; without it, the whole state.
        outputs: What a subgraph leaves: keys outside, each with the subgraph's; without it, all that it changed.
    """

    name: str
    type: NodeType = NodeType.STANDARD
    function: str | None = None
    condition: Condition | None = None
    max_iterations: int | None = None
    on_max: OnMax = OnMax.EXIT
    limits: Limits = field(default_factory=Limits)
    retry: Retry = field(default_factory=Retry)
    join: int | None = None
    items: str | None = None
    into: str | None = None
    max_concurrency: int = DEFAULT_CONCURRENCY
    event: str | None = None
    timeout_s: float | None = None
    graph_id: str | None = None
    inputs: tuple[tuple[str, str], ...] | None = None
    outputs: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one node to the next.

    Attributes:
        source: Name of the node it leaves.
        target: Name of the node it enters.
        condition: Taken only if this holds; always without one.
        default: Taken only if no other edge of the source is.
        on: Taken only if one of these became of the source.
    """

    source: str
    target: str
    condition: Condition | None = None
    default: bool = False
    on: frozenset[Outcome] = ON_SUCCESS


@dataclass(frozen=True, slots=True)
class Graph:
    """A named graph; valid once `problems` of it and its topology found nothing.

    Attributes:
        name: For people, and shared by the versions of one graph.
        nodes: In the document's order, which is the graph's order.
        edges: In the document's order; at a join, branches merge in this order.
        start_node: Where runs start; without it, at the node of type start.
        max_steps: Most node runs, start and end not counted, that a run may take.
        timeout_s: Longest a run may take; without it the deployment's.
        isolation: What shares a sandbox.
        runtime: OCI runtime of the sandboxes; without it the deployment's.
        on_error: Whether a failure ends the run at once, or when all has run that does not depend on it.
        reducers: Keys whose changes by parallel branches come together, and how.
        max_concurrent_runs: Runs of all versions of the graph that may be under way at the same time.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    start_node: str | None = None
    max_steps: int = DEFAULT_MAX_STEPS
    timeout_s: float | None = None
    isolation: Isolation = Isolation.NODE
    runtime: str | None = None
    on_error: OnError = OnError.FAIL_FAST
    reducers: tuple[tuple[str, Reducer], ...] = ()
    max_concurrent_runs: int | None = None

    @property
    def entry(self) -> str:
        """Name of the node where runs start, in a valid graph."""
        if self.start_node is not None:
            return self.start_node
        return next(node.name for node in self.nodes if node.type is NodeType.START)

    def conditions(self) -> Iterator[tuple[str, Condition]]:
        """Yield each condition with its path in the document."""
        for index, node in enumerate(self.nodes):
            if node.condition:
                yield f"nodes[{index}].condition", node.condition
        for index, edge in enumerate(self.edges):
            if edge.condition:
                yield f"edges[{index}].condition", edge.condition

    def functions(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each registered function the graph needs, with the path where it is named."""
        for index, node in enumerate(self.nodes):
            if node.function:
                yield f"nodes[{index}].function", node.function
        for path, condition in self.conditions():
            if condition.function:
                yield f"{path}.function", condition.function
