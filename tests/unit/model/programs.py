"""Random graphs, and what their nodes do when they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from hypothesis import strategies as st
from tests.unit.model.oracle import Act, dominators

from sandgraph.model.graph import ON_SUCCESS, Condition, Edge, Graph, Node, NodeType, OnError, OnMax, Outcome
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus, NodeRunKey
from sandgraph.model.state import Json

T = TypeVar("T")

INITIAL: dict[str, Json] = {"shared": "initial", "items": ["a", "b", "c"], "none": []}

#: Keys that nodes add to, and what a graph may make of that.
ADDED = {"log": Reducer.APPEND, "sum": Reducer.ADD}

_RETRY = Retry(max_attempts=3)


@dataclass(frozen=True)
class Program:
    """A graph and the script of its node runs; what the script does not say of a later iteration is no."""

    graph: Graph
    answers: dict[tuple[str, str], list[bool]]
    again: dict[str, list[bool]]
    writes: dict[str, list[str]]
    failures: dict[str, list[AttemptStatus | None]]
    subgraphs: dict[str, Program] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        return next(node for node in self.graph.nodes if node.name == name)

    def all_subgraphs(self) -> dict[str, Program]:
        """Return the programs of all subgraphs, at any depth."""
        found = dict(self.subgraphs)
        for inner in self.subgraphs.values():
            found |= inner.all_subgraphs()
        return found

    def around(self, key: NodeRunKey) -> Program:
        """Return the program that a node run is directly part of."""
        program = self
        for part in filter(None, key.scope.split("/")):
            node = program.node(part.partition("#")[0])
            program = program.subgraphs[node.graph_id] if node.graph_id else program
        return program

    def map_of(self, key: NodeRunKey) -> NodeRunKey | None:
        """Return the map that a node run is an item of."""
        scope, _, last = key.scope.rpartition("/")
        name, _, iteration = last.partition("#")
        if not name:
            return None
        of = NodeRunKey(name, int(iteration), scope)
        return of if self.around(of).node(name).type is NodeType.MAP else None

    def item(self, key: NodeRunKey) -> Json | AttemptStatus:
        """Return what an item comes to; where a map is to fail, its first one does."""
        of = self.map_of(key)
        assert of
        fails = self.act(of).fails
        return fails if fails and key.iteration == 1 else str(key)

    def act(self, key: NodeRunKey) -> Act:
        """Return what a node run comes back with; the same whenever it is asked.

        Not of waits and subgraphs: what is in the script of those is the answers of the conditions behind them.
        """
        return self.around(key)._act(key)

    def _act(self, key: NodeRunKey) -> Act:
        at = key.iteration - 1
        node = self.node(key.node)
        failures = self.failures.get(key.node, [])
        items = INITIAL[node.items] if node.items else None
        if at < len(failures) and failures[at] and items != []:
            became = Outcome.TIMED_OUT if failures[at] is AttemptStatus.TIMEOUT and items is None else Outcome.FAILED
            return Act(fails=failures[at], became=became)
        after = tuple(
            _at(self.answers[edge.source, edge.target], at)
            for edge in self.graph.edges
            if edge.source == key.node and edge.condition
        )
        if isinstance(items, list):
            results: list[Json] = [str(NodeRunKey(key.node, i + 1, key.path)) for i in range(len(items))]
            return Act({node.into or "": results}, after=after)
        if not node.function:
            return Act(after=after)
        act = replace(self._changes(key), after=after)
        if node.type is not NodeType.LOOP:
            return act
        again = _at(self.again[key.node], at) if node.condition else None
        return replace(act, entered=not node.condition or at % 3 < 2, again=again)

    def _changes(self, key: NodeRunKey) -> Act:
        written = self.writes.get(key.node, [])
        what = written[(key.iteration - 1) % len(written)] if written else ""
        if what.startswith("-"):
            return Act(deletes=frozenset({what[1:]}))
        if what.startswith("+"):
            return Act(adds={what[1:]: [str(key)] if what == "+log" else key.iteration})
        return Act({what: str(key)} if what else {})


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


#: Types of nodes, by a letter each: functions, loops, nodes without function, maps, waits and subgraphs.
PLAIN = "ffffflp"
RICH = "fffflpmmwwss"


def programs(kinds: str = PLAIN) -> st.SearchStrategy[Program]:
    """Programs that Hypothesis can make smaller."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Program:
        return program(lambda options: draw(st.sampled_from(options)), kinds)

    return drawn()


def program(choose: Choose, kinds: str = PLAIN, depth: int = 2, graph_id: str = "graph") -> Program:
    """Choose a graph of up to twelve nodes, in which every cycle has one entry and a way out, and what its nodes do."""
    size = choose(range(3, 13 if depth == 2 else 6))
    names = [f"n{i}" for i in range(size)]
    first = choose([0, 1])
    if not depth:
        kinds = kinds.replace("s", "")
    reducers = choose([(), tuple(ADDED.items())]) if kinds != PLAIN else ()
    graph = Graph(
        "chosen",
        tuple(_node(choose, name, i, size, first, kinds) for i, name in enumerate(names)),
        tuple(_edges(choose, names, _pairs(choose, names, first))),
        start_node=None if first else names[0],
        max_steps=choose([60, 60, 60, 60, 5]),
        on_error=choose([OnError.FAIL_FAST, OnError.FINISH]),
        reducers=reducers,
    )
    graph = replace(graph, nodes=tuple(_with_graph_id(node, graph_id) for node in graph.nodes))
    ids = [node.graph_id for node in graph.nodes if node.graph_id]
    inside = {each: _alike(program(choose, kinds, depth - 1, each), reducers) for each in ids}
    answers = {(edge.source, edge.target): _answers(choose) for edge in graph.edges if edge.condition}
    again = {node.name: _answers(choose) for node in graph.nodes if node.type is NodeType.LOOP}
    writes = {name: _writes(choose, name, adds=kinds != PLAIN) for name in names}
    return Program(_joining(choose, graph), answers, again, writes, _failures(choose, graph), inside)


def _with_graph_id(node: Node, around: str) -> Node:
    return replace(node, graph_id=f"{around}.{node.name}") if node.type is NodeType.SUBGRAPH else node


def _alike(program: Program, reducers: tuple[tuple[str, Reducer], ...]) -> Program:
    """Let a program have the reducers of the one around it."""
    inside = {each: _alike(inner, reducers) for each, inner in program.subgraphs.items()}
    return replace(program, graph=replace(program.graph, reducers=reducers), subgraphs=inside)


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


def _node(choose: Choose, name: str, index: int, size: int, first: int, kinds: str) -> Node:
    if index < first:
        return Node(name, NodeType.START)
    if index == size - 1 and choose(range(4)):
        return Node(name, NodeType.END)
    kind = choose(kinds)
    if kind == "p":
        return Node(name)
    if kind == "f":
        return Node(name, function=name, retry=_RETRY)
    if kind != "l":
        return _rich_node(choose, name, kind)
    return Node(
        name,
        NodeType.LOOP,
        function=name,
        condition=choose([Condition("go"), None]),
        max_iterations=choose([2, 1, 3]),
        on_max=choose([OnMax.EXIT, OnMax.EXIT, OnMax.FAIL]),
        retry=_RETRY,
    )


def _rich_node(choose: Choose, name: str, kind: str) -> Node:
    timeout_s = choose([None, 5.0])
    if kind == "w":
        event = choose(["go", "go", "come", None])
        into = name if event else None
        return Node(name, NodeType.WAIT, event=event, into=into, timeout_s=timeout_s if event else 5.0, retry=_RETRY)
    if kind == "m":
        node = Node(name, NodeType.MAP, function=name, into=name, timeout_s=timeout_s, retry=_RETRY)
        return replace(node, items=choose(["items", "items", "none"]), max_concurrency=choose([1, 2, 8]))
    known = (*INITIAL, *ADDED)
    inputs = choose([None, tuple((each, each) for each in known)])
    outputs = choose([None, ((name, "shared"), *((each, each) for each in ADDED))])
    return Node(name, NodeType.SUBGRAPH, graph_id="", inputs=inputs, outputs=outputs, timeout_s=timeout_s, retry=_RETRY)


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


def _writes(choose: Choose, name: str, *, adds: bool) -> list[str]:
    options = [name, name, name, name, "", f"-{name}", "shared", "-shared", *(["+log", "+log", "+sum"] if adds else [])]
    return [choose(options) for _ in range(choose(range(4)))]
