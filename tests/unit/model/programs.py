"""Random graphs, and what their nodes do when they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from hypothesis import strategies as st
from tests.unit.model.oracle import Act, dominators

from sandgraph.model.graph import ON_SUCCESS, Condition, Edge, Graph, Node, NodeType, OnError, OnMax, Outcome
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus, NodeRunKey
from sandgraph.model.state import Json

T = TypeVar("T")

INITIAL: dict[str, Json] = {"shared": "initial"}

_RETRY = Retry(max_attempts=3)


@dataclass(frozen=True)
class Program:
    """A graph and the script of its node runs; what the script does not say of a later iteration is no."""

    graph: Graph
    answers: dict[tuple[str, str], list[bool]]
    again: dict[str, list[bool]]
    writes: dict[str, list[str]]
    failures: dict[str, list[AttemptStatus | None]]

    def act(self, key: NodeRunKey) -> Act:
        """Return what a node run comes back with; the same whenever it is asked."""
        at = key.iteration - 1
        failures = self.failures.get(key.node, [])
        if at < len(failures) and failures[at]:
            return Act(fails=failures[at])
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


_ON = [
    frozenset({Outcome.FAILED}),
    frozenset({Outcome.FAILED, Outcome.TIMED_OUT}),
    frozenset({Outcome.SKIPPED}),
    frozenset(Outcome),
    frozenset({Outcome.SUCCEEDED, Outcome.TIMED_OUT}),
]


class Choose(Protocol):
    """Chooses one of several, again and again."""

    def __call__(self, options: Sequence[T], /) -> T: ...


def programs() -> st.SearchStrategy[Program]:
    """Programs that Hypothesis can make smaller."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Program:
        return program(lambda options: draw(st.sampled_from(options)))

    return drawn()


def program(choose: Choose) -> Program:
    """Choose a graph of up to twelve nodes, in which every cycle has one entry and a way out, and what its nodes do."""
    size = choose(range(3, 13))
    names = [f"n{i}" for i in range(size)]
    first = choose([0, 1])
    graph = Graph(
        "chosen",
        tuple(_node(choose, name, i, size, first) for i, name in enumerate(names)),
        tuple(_edges(choose, names, _pairs(choose, names, first))),
        start_node=None if first else names[0],
        max_steps=choose([60, 60, 60, 60, 5]),
        on_error=choose([OnError.FAIL_FAST, OnError.FINISH]),
    )
    answers = {(edge.source, edge.target): _answers(choose) for edge in graph.edges if edge.condition}
    again = {node.name: _answers(choose) for node in graph.nodes if node.type is NodeType.LOOP}
    writes = {name: _writes(choose, name) for name in names}
    return Program(_joining(choose, graph), answers, again, writes, _failures(choose, graph))


def _pairs(choose: Choose, names: list[str], first: int) -> set[tuple[int, int]]:
    """Choose the edges, as pairs of numbers; those below ``first`` have none that enters them."""
    size = len(names)
    pairs = {(choose(range(max(0, i - 3), i)), i) for i in range(1, size)}
    for i in range(size - 1):
        if i not in {source for source, _ in pairs} or choose(range(3)) == 0:
            pairs.add((i, choose(range(i + 1, size))))
    cyclic = choose(range(4))
    closing = [i for i in range(first, size - 1) if choose(range(4)) < cyclic]
    # Every cycle gets a way to the last node; some get another one, too.
    pairs |= {(i, choose([size - 1, choose(range(i + 1, size))])) for i in closing}
    pairs |= {(i, size - 1) for i in closing}
    forward = Graph("", tuple(map(Node, names)), tuple(Edge(names[i], names[j]) for i, j in sorted(pairs)), names[0])
    above = dominators(forward)
    # An edge back to a dominator changes no dominators, so each of these closes a cycle with one entry.
    pairs |= {(i, choose([j for j in range(first, i + 1) if names[j] in above[names[i]]])) for i in closing}
    return pairs


def _joining(choose: Choose, graph: Graph) -> Graph:
    """Let some nodes not wait for all of their inputs."""
    above = dominators(graph)
    entering = Counter(edge.target for edge in graph.edges if edge.target not in above[edge.source])
    if choose([True, False]):
        return graph
    counts = {name: choose([None, *range(1, count + 1)]) for name, count in sorted(entering.items()) if count > 1}
    return replace(graph, nodes=tuple(replace(node, join=counts.get(node.name)) for node in graph.nodes))


def _edges(choose: Choose, names: list[str], pairs: set[tuple[int, int]]) -> list[Edge]:
    edges, defaults = list[Edge](), set[int]()
    left = sorted(pairs)
    while left:
        source, target = choose(left)
        left.remove((source, target))
        kind = choose("???!" if target <= source else "?!-----ooo")
        on = choose(_ON) if kind == "o" else ON_SUCCESS
        if target == len(names) - 1:
            # So that whatever goes round may also come to the end.
            on |= ON_SUCCESS
        is_default = kind == "!" and source not in defaults
        if is_default:
            defaults.add(source)
        condition = Condition(f"{source}_{target}") if kind in "?!" and not is_default else None
        edges.append(Edge(names[source], names[target], condition, default=is_default, on=on))
    return edges


def _node(choose: Choose, name: str, index: int, size: int, first: int) -> Node:
    if index < first:
        return Node(name, NodeType.START)
    if index == size - 1 and choose(range(4)):
        return Node(name, NodeType.END)
    kind = choose("ffffflp")
    if kind == "p":
        return Node(name)
    if kind == "f":
        return Node(name, function=name, retry=_RETRY)
    return Node(
        name,
        NodeType.LOOP,
        function=name,
        condition=choose([Condition("go"), None]),
        max_iterations=choose([2, 1, 3]),
        on_max=choose([OnMax.EXIT, OnMax.EXIT, OnMax.FAIL]),
        retry=_RETRY,
    )


def _failures(choose: Choose, graph: Graph) -> dict[str, list[AttemptStatus | None]]:
    """Choose what fails for good: often where an edge may be taken on that, and seldom elsewhere."""
    handled = {edge.source for edge in graph.edges if edge.on & {Outcome.FAILED, Outcome.TIMED_OUT}}
    found: dict[str, list[AttemptStatus | None]] = {}
    for node in graph.nodes:
        if node.function and choose(range(2 if node.name in handled else 30)) == 0:
            found[node.name] = [choose([AttemptStatus.NO_RESULT, AttemptStatus.TIMEOUT, None]) for _ in range(3)]
    return found


def _answers(choose: Choose) -> list[bool]:
    return [choose([False, True]) for _ in range(choose(range(5)))]


def _writes(choose: Choose, name: str) -> list[str]:
    return [choose([name, name, name, name, "", f"-{name}", "shared", "-shared"]) for _ in range(choose(range(4)))]
