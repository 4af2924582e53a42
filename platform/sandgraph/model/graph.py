"""Graphs: nodes, edges, and what makes them valid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sandgraph.errors import Problem
from sandgraph.model.limits import FLOOR, Isolation, Limits
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import RETRYABLE, Retry

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


def problems(graph: Graph, ceiling: Limits) -> list[Problem]:
    """Return everything that is wrong with a graph taken piece by piece; its shape is `topology`'s to judge.

    Args:
        graph: As it was submitted.
        ceiling: The highest limits a node may ask for.
    """
    found = [*_names(graph), *_start(graph), *_range("max_steps", graph.max_steps, 1)]
    if graph.max_concurrent_runs is not None:
        found += _range("max_concurrent_runs", graph.max_concurrent_runs, 1)
    if graph.timeout_s is not None:
        found += _range("timeout_s", graph.timeout_s, FLOOR.timeout_s)
    for index, node in enumerate(graph.nodes):
        found += _node(node, f"nodes[{index}]", ceiling)
    found += _edges(graph)
    return found


def _names(graph: Graph) -> Iterator[Problem]:
    if not graph.nodes:
        yield Problem("nodes", "no_nodes", "A graph needs at least one node.")
    first: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        if node.name in first:
            yield Problem(
                f"nodes[{index}].name",
                "duplicate_node",
                f"The name {node.name!r} is already that of nodes[{first[node.name]}].",
            )
        first.setdefault(node.name, index)


def _start(graph: Graph) -> Iterator[Problem]:
    starts = [index for index, node in enumerate(graph.nodes) if node.type is NodeType.START]
    if len(starts) > 1:
        yield Problem(
            f"nodes[{starts[1]}].type", "two_starts", f"nodes[{starts[0]}] is a start node already; there can be one."
        )
    if graph.start_node is not None:
        if graph.start_node not in {node.name for node in graph.nodes}:
            yield Problem("start_node", "unknown_node", f"There is no node {graph.start_node!r}.")
        elif starts and graph.nodes[starts[0]].name != graph.start_node:
            yield Problem(
                "start_node",
                "two_starts",
                f"{graph.start_node!r} is not the start node {graph.nodes[starts[0]].name!r}; leave one of them out.",
            )
    elif graph.nodes and not starts:
        yield Problem("nodes", "no_start", 'There is no start: name one in "start_node", or add a node of type start.')


def _node(node: Node, path: str, ceiling: Limits) -> Iterator[Problem]:
    needed, allowed = _FIELDS[node.type]
    for name, default in _SPECIAL.items():
        given = getattr(node, name) != default
        if given and name not in needed and name not in allowed:
            yield Problem(f"{path}.{name}", f"{name}_not_allowed", _not_allowed(name, node.type))
        elif not given and name in needed:
            code, message = needed[name]
            yield Problem(f"{path}.{name}", code, message)
    if node.max_iterations is not None and node.type is NodeType.LOOP:
        yield from _range(f"{path}.max_iterations", node.max_iterations, 1)
    if node.type is NodeType.MAP:
        yield from _range(f"{path}.max_concurrency", node.max_concurrency, 1, MAX_CONCURRENCY)
    if node.timeout_s is not None:
        yield from _range(f"{path}.timeout_s", node.timeout_s, 0)
    if node.type is NodeType.WAIT and node.event is None and node.timeout_s is None:
        yield Problem(f"{path}.event", "event_required", "A wait needs the event that ends it, or timeout_s, or both.")
    elif node.type is NodeType.WAIT and node.event is None and node.into is not None:
        yield Problem(f"{path}.into", "into_not_allowed", "A wait without event gets nothing that it could put there.")
    if node.join is not None:
        yield from _range(f"{path}.join", node.join, 1)
    yield from node.limits.above(ceiling, f"{path}.limits")
    yield from node.limits.below(FLOOR, f"{path}.limits")
    yield from _retry(node.retry, f"{path}.retry")


#: Fields that only some types of nodes have, and what they are where a document does not say.
_SPECIAL: Mapping[str, object] = {
    "function": None,
    "condition": None,
    "max_iterations": None,
    "items": None,
    "into": None,
    "max_concurrency": DEFAULT_CONCURRENCY,
    "event": None,
    "timeout_s": None,
    "graph_id": None,
    "inputs": None,
    "outputs": None,
}

#: By type: the special fields it needs, each with the code and the message where it is missing; and those it may have.
_FIELDS: Mapping[NodeType, tuple[Mapping[str, tuple[str, str]], frozenset[str]]] = {
    NodeType.START: ({}, frozenset()),
    NodeType.END: ({}, frozenset()),
    NodeType.STANDARD: ({}, frozenset({"function"})),
    NodeType.LOOP: (
        {
            "function": ("function_required", "A loop needs the function that is its body."),
            "max_iterations": ("unbounded_loop", "A loop needs max_iterations, so that it ends."),
        },
        frozenset({"condition"}),
    ),
    NodeType.MAP: (
        {
            "function": ("function_required", "A map needs the function that it runs for each item."),
            "items": ("items_required", "A map needs the state key of the list that it runs over."),
            "into": ("into_required", "A map needs the state key that gets the results."),
        },
        frozenset({"max_concurrency", "timeout_s"}),
    ),
    NodeType.WAIT: ({}, frozenset({"event", "into", "timeout_s"})),
    NodeType.SUBGRAPH: (
        {"graph_id": ("graph_id_required", "A subgraph needs the graph_id of the graph version that it runs.")},
        frozenset({"inputs", "outputs", "timeout_s"}),
    ),
}


def _not_allowed(name: str, kind: NodeType) -> str:
    if name == "function":
        return f"A node of type {kind} runs no function."
    if name == "condition":
        return "Only a loop has a condition; put it on an edge."
    owners = [str(each) for each, (needed, allowed) in _FIELDS.items() if name in needed or name in allowed]
    listed = " or ".join(f"a {owner}" for owner in owners)
    hint = "; the time of an attempt is limits.timeout_s" if name == "timeout_s" else ""
    return f"Only {listed} has {name}{hint}."


def _retry(retry: Retry, path: str) -> Iterator[Problem]:
    yield from _range(f"{path}.max_attempts", retry.max_attempts, 1, MAX_ATTEMPTS)
    yield from _range(f"{path}.initial_s", retry.initial_s, 0)
    yield from _range(f"{path}.factor", retry.factor, 1)
    yield from _range(f"{path}.max_s", retry.max_s, 0)
    if never := retry.on - RETRYABLE:
        names = " and ".join(sorted(map(repr, map(str, never))))
        yield Problem(f"{path}.on", "not_retryable", f"What ended as {names} is never tried again.")


def _range(path: str, value: float, least: float, most: float = math.inf) -> Iterator[Problem]:
    # Told so that what is no number at all is out of range too.
    if not (least <= value <= most and value < math.inf):
        upper = "" if most == math.inf else f" and at most {most}"
        yield Problem(path, "out_of_range", f"It must be a number, at least {least}{upper}.")


def _edges(graph: Graph) -> Iterator[Problem]:
    nodes = {node.name: node for node in graph.nodes}
    seen: set[tuple[str, str]] = set()
    defaults = Counter(edge.source for edge in graph.edges if edge.default)
    for index, edge in enumerate(graph.edges):
        path = f"edges[{index}]"
        for end in ("source", "target"):
            name = getattr(edge, end)
            if name not in nodes:
                yield Problem(f"{path}.{end}", "unknown_node", f"There is no node {name!r}.")
        if edge.source in nodes and nodes[edge.source].type is NodeType.END:
            yield Problem(f"{path}.source", "edge_from_end", f"{edge.source!r} is an end: no edge leaves it.")
        if edge.target in nodes and nodes[edge.target].type is NodeType.START:
            yield Problem(f"{path}.target", "edge_to_start", f"{edge.target!r} is the start: no edge enters it.")
        if (edge.source, edge.target) in seen:
            yield Problem(
                path,
                "duplicate_edge",
                f"There is an edge from {edge.source!r} to {edge.target!r} already; "
                "join their conditions with `or`, and what they are taken on in one list.",
            )
        seen.add((edge.source, edge.target))
        if edge.default and edge.condition is not None:
            yield Problem(
                f"{path}.default", "default_with_condition", "A default edge is taken when no other is: no condition."
            )
        if edge.default and defaults[edge.source] > 1:
            yield Problem(f"{path}.default", "two_defaults", f"{edge.source!r} has more than one default edge.")
        yield from _on(edge, f"{path}.on")


def _on(edge: Edge, path: str) -> Iterator[Problem]:
    if not edge.on:
        yield Problem(path, "too_short", "It must name at least one of succeeded, failed, timed_out and skipped.")
    elif edge.on != ON_SUCCESS and edge.condition is not None:
        yield Problem(
            path,
            "on_with_condition",
            "A condition is asked where its source ran, once it has succeeded, and not on anything else; "
            "let the edge lead to a node without a function, and put the condition behind that.",
        )
    elif edge.on != ON_SUCCESS and edge.default:
        yield Problem(path, "on_with_default", "A default edge is one of those that are taken on success.")
