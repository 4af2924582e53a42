"""What makes a graph valid, taken piece by piece; its shape is `topology`'s to judge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from sandgraph.errors import Problem
from sandgraph.model.graph import (
    DEFAULT_CONCURRENCY,
    MAX_ATTEMPTS,
    MAX_CONCURRENCY,
    ON_SUCCESS,
    Edge,
    Graph,
    Node,
    NodeType,
)
from sandgraph.model.limits import FLOOR, Limits
from sandgraph.model.retry import RETRYABLE, Retry


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
