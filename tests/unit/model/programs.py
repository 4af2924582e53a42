"""Random graphs, and what their nodes do when they run."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from tests.unit.model.oracle import Act, dominators

from sandgraph.model.graph import Condition, Edge, Graph, Node, NodeType, OnMax
from sandgraph.model.retry import Retry
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import Json

INITIAL: dict[str, Json] = {"shared": "initial"}

_RETRY = Retry(max_attempts=3)


@dataclass(frozen=True)
class Program:
    """A graph and the script of its node runs; what the script does not say of a later iteration is no."""

    graph: Graph
    answers: dict[tuple[str, str], list[bool]]
    again: dict[str, list[bool]]
    writes: dict[str, list[str]]

    def act(self, key: NodeRunKey) -> Act:
        """Return what a node run comes back with; the same whenever it is asked."""
        at = key.iteration - 1
        after = tuple(
            _at(self.answers[edge.source, edge.target], at)
            for edge in self.graph.edges
            if edge.source == key.node and edge.condition
        )
        node = next(node for node in self.graph.nodes if node.name == key.node)
        if node.type is not NodeType.LOOP:
            return Act(*self._changes(key), after=after)
        again = _at(self.again[key.node], at) if node.condition else None
        return Act(*self._changes(key), entered=not node.condition or at % 3 < 2, again=again, after=after)

    def _changes(self, key: NodeRunKey) -> tuple[dict[str, Json], frozenset[str]]:
        written = self.writes.get(key.node, [])
        what = written[(key.iteration - 1) % len(written)] if written else ""
        if what.startswith("-"):
            return {}, frozenset({what[1:]})
        return {what: str(key)} if what else {}, frozenset()


def _at(answers: list[bool], index: int) -> bool:
    return index < len(answers) and answers[index]


_ANSWERS = st.lists(st.booleans(), max_size=4)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Graphs of up to ten nodes in which every cycle has one entry and a way out."""
    size = draw(st.integers(3, 10))
    names = [f"n{i}" for i in range(size)]
    has_start, has_end = draw(st.booleans()), draw(st.integers(0, 3)) > 0
    pairs = {(draw(st.integers(max(0, i - 3), i - 1)), i) for i in range(1, size)}
    for i in range(size - 1):
        if i not in {source for source, _ in pairs} or draw(st.integers(0, 2)) == 0:
            pairs.add((i, draw(st.integers(i + 1, size - 1))))
    drawn = Graph("", tuple(Node(name) for name in names), _edges(names, pairs), names[0])
    above = dominators(drawn)
    # An edge back to a dominator changes no dominators, so each of these closes a cycle with one entry.
    for i in range(has_start, size - 1):
        headers = [j for j in range(has_start, i + 1) if names[j] in above[names[i]]]
        if draw(st.integers(0, 2)) == 0:
            pairs |= {(i, draw(st.sampled_from(headers))), (i, size - 1)}
    edges = []
    defaults = set()
    for source, target in sorted(pairs):
        kind = draw(st.sampled_from("???!" if target <= source else "?!-----"))
        is_default = kind == "!" and source not in defaults
        if is_default:
            defaults.add(source)
        condition = Condition(f"{source}_{target}") if kind == "?" else None
        edges.append(Edge(names[source], names[target], condition, default=is_default))
    nodes = [_node(draw, name) for name in names]
    if has_start:
        nodes[0] = Node(names[0], NodeType.START)
    if has_end:
        nodes[-1] = Node(names[-1], NodeType.END)
    drawn_edges = tuple(draw(st.permutations(edges)))
    graph = Graph("drawn", tuple(nodes), drawn_edges, None if has_start else names[0], draw(st.sampled_from([60] * 9 + [5])))
    answers = {(edge.source, edge.target): draw(_ANSWERS) for edge in graph.edges if edge.condition}
    again = {node.name: draw(_ANSWERS) for node in graph.nodes if node.type is NodeType.LOOP}
    return Program(graph, answers, again, {name: draw(_writes(name)) for name in names})


def _edges(names: list[str], pairs: set[tuple[int, int]]) -> tuple[Edge, ...]:
    return tuple(Edge(names[i], names[j]) for i, j in sorted(pairs))


def _writes(name: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([name, name, name, name, name, name, "", "shared", "-shared", f"-{name}"]), max_size=3)


def _node(draw: st.DrawFn, name: str) -> Node:
    match draw(st.integers(0, 5)):
        case 0:
            return Node(name)
        case 1:
            return Node(
                name,
                NodeType.LOOP,
                function=name,
                condition=draw(st.sampled_from([None, Condition("go")])),
                max_iterations=draw(st.integers(1, 3)),
                on_max=draw(st.sampled_from([OnMax.EXIT, OnMax.EXIT, OnMax.FAIL])),
                retry=_RETRY,
            )
        case _:
            return Node(name, function=name, retry=_RETRY)
