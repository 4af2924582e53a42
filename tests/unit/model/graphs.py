"""Graphs in a notation short enough for tests."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sandgraph.model.graph import (
    DEFAULT_MAX_STEPS,
    ON_SUCCESS,
    Condition,
    Edge,
    Graph,
    Node,
    NodeType,
    OnMax,
    Outcome,
)
from sandgraph.model.limits import Limits
from sandgraph.model.retry import Retry
from sandgraph.model.topology import Topology, analyse
from sandgraph.model.validity import problems

_EDGE = re.compile(r"(\w+)>(\w+)(\?|!|\^[sftk]+)?")
_OUTCOMES = {"s": Outcome.SUCCEEDED, "f": Outcome.FAILED, "t": Outcome.TIMED_OUT, "k": Outcome.SKIPPED}


def plain(name: str) -> Node:
    """A node that runs no function."""
    return Node(name)


def loop(name: str, most: int, condition: str | None = "go", on_max: OnMax = OnMax.EXIT) -> Node:
    """A loop node."""
    asked = Condition(condition) if condition else None
    return Node(name, NodeType.LOOP, function=name, condition=asked, max_iterations=most, on_max=on_max)


def tried(name: str, attempts: int, **how: float) -> Node:
    """A node whose failed attempts are tried again."""
    return Node(name, function=name, retry=Retry(max_attempts=attempts, jitter=False, **how))  # type: ignore[arg-type]


def mapped(name: str, most: int = 8, **fields: object) -> Node:
    """A map of ``items`` into ``results``."""
    return Node(name, NodeType.MAP, function=name, items="items", into="results", max_concurrency=most, **fields)  # type: ignore[arg-type]


def waiting(name: str, event: str | None = "go", timeout_s: float | None = None, into: str | None = None) -> Node:
    """A wait, for the event ``go`` if nothing else is said."""
    return Node(name, NodeType.WAIT, event=event, timeout_s=timeout_s, into=into)


def subgraph(name: str, graph_id: str = "inner", **fields: object) -> Node:
    """A subgraph; ``inputs`` and ``outputs`` are given as mappings."""
    pairs = {key: tuple(value.items()) if isinstance(value, dict) else value for key, value in fields.items()}
    return Node(name, NodeType.SUBGRAPH, graph_id=graph_id, **pairs)  # type: ignore[arg-type]


def graph_of(edges: str, *nodes: Node, start_node: str | None = None, max_steps: int = DEFAULT_MAX_STEPS) -> Graph:
    """Make a graph of ``a>b`` (on success), ``a>b?`` (a condition), ``a>b!`` (the default) and ``a>b^ft`` (on others).

    After ``^`` stand the outcomes' letters: s(ucceeded), f(ailed), t(imed out), (s)k(ipped).

    A node is there as soon as an edge or a single word names it: ``start…`` is a start, ``end…`` an end, and any other
    runs the function of its name, unless ``nodes`` says otherwise.
    """
    given = {node.name: node for node in nodes}
    found: dict[str, Node] = {}
    drawn = []
    for word in edges.split():
        match = _EDGE.fullmatch(word)
        for name in (match[1], match[2]) if match else (word,):
            found.setdefault(name, given.get(name) or _node(name))
        if match:
            condition = Condition(f"{match[1]}_{match[2]}") if match[3] == "?" else None
            on = frozenset(_OUTCOMES[letter] for letter in (match[3] or "")[1:]) or ON_SUCCESS
            drawn.append(Edge(match[1], match[2], condition, default=match[3] == "!", on=on))
    return Graph("test", tuple(found.values()), tuple(drawn), start_node, max_steps)


def shape(graph: Graph) -> Topology:
    """Return the topology of a graph that must be valid."""
    assert problems(graph, Limits()) == []
    topology = analyse(graph)
    assert isinstance(topology, Topology), topology
    return topology


def loop_nodes(topology: Topology) -> Mapping[str, set[str]]:
    return {header: set(found.nodes) for header, found in topology.loops.items()}


def _node(name: str) -> Node:
    if name.startswith("start"):
        return Node(name, NodeType.START)
    if name.startswith("end"):
        return Node(name, NodeType.END)
    return Node(name, function=name)
