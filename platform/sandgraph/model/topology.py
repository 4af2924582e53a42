"""The shape of a graph: what can be reached, which edges close cycles, and which edges leave which loops.

An edge u→v is a back edge when v dominates u; the loop of a header v is v and everything that reaches one of its back
edges without passing v (natural loops: Aho, Lam, Sethi, Ullman, *Compilers*, 2nd ed., 9.6). Dominators are found as in
Cooper, Harvey, Kennedy, *A Simple, Fast Dominance Algorithm*, 2001; loops from the innermost outwards, as in Tarjan,
*Testing Flow Graph Reducibility*, 1974.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sandgraph.errors import Problem
from sandgraph.model.graph import ON_SUCCESS, Graph, Node, NodeType, Outcome

#: Loops inside each other; what a run must keep of its loops grows with it.
MAX_NESTING = 32

_NAMES_SHOWN = 10

Adjacency = Mapping[str, tuple[int, ...]]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Loop:
    """A natural loop.

    Attributes:
        header: The one node through which it is entered.
        nodes: All of its nodes, the header among them.
        back_edges: Indices of the edges that start its next iteration, in the graph's order.
        inside: Indices of the edges with both ends in it, the back edges among them.
        exits: Indices of the edges that leave it and no loop around it: they resolve when it ends.
    """

    header: str
    nodes: frozenset[str]
    back_edges: tuple[int, ...]
    inside: frozenset[int]
    exits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """What the scheduler needs to know of a graph's shape, computed once.

    Attributes:
        nodes: The graph's nodes by name.
        outgoing: Node name to the indices of its outgoing edges, in the graph's order.
        joins: Node name to the indices of its incoming edges but for back edges, in the graph's order.
        loops: By header; inner ones before those around them.
        exits: Indices of the edges that leave a loop.
        back_edges: Indices of the edges that close a cycle.
        ends: Names of the nodes of type end; in a graph without any, of those that no edge leaves on success.
        asks_skipped: Whether some edge is taken when its source was skipped.
    """

    nodes: Mapping[str, Node]
    outgoing: Adjacency
    joins: Adjacency
    loops: Mapping[str, Loop]
    exits: frozenset[int]
    back_edges: frozenset[int]
    ends: tuple[str, ...]
    asks_skipped: bool


def analyse(graph: Graph) -> Topology | list[Problem]:
    """Return the topology of a graph that has no `graph.problems`, or what is wrong with its shape."""
    outgoing = _by_end(graph, "source", frozenset())
    order = _reverse_postorder(graph, outgoing)
    number = {name: i for i, name in enumerate(order)}
    unreachable = [
        Problem(f"nodes[{i}]", "unreachable_node", f"No path leads from {graph.entry!r} to {node.name!r}.")
        for i, node in enumerate(graph.nodes)
        if node.name not in number
    ]
    if unreachable:
        return unreachable
    first, final = _dominated(_dominators(graph, order, number))
    back_edges = frozenset(
        i
        for i, edge in enumerate(graph.edges)
        if first[number[edge.target]] <= first[number[edge.source]] <= final[number[edge.target]]
    )
    joins = _by_end(graph, "target", back_edges)
    if tangled := list(_tangled(graph, back_edges)):
        return tangled
    loops = _loops(graph, order, joins, back_edges)
    if isinstance(loops, Problem):
        return [loops]
    if endless := [*_endless(graph, loops, outgoing), *_idle(graph, outgoing, back_edges), *_back(graph, back_edges)]:
        return endless
    if unmet := list(_unmet(graph, joins)):
        return unmet
    nodes = {node.name: node for node in graph.nodes}
    exits = frozenset(i for loop in loops.values() for i in loop.exits)
    ends = tuple(node.name for node in graph.nodes if node.type is NodeType.END)
    going_on = {edge.source for edge in graph.edges if Outcome.SUCCEEDED in edge.on}
    last = tuple(node.name for node in graph.nodes if node.name not in going_on)
    asks_skipped = any(Outcome.SKIPPED in edge.on for edge in graph.edges)
    return Topology(nodes, outgoing, joins, loops, exits, back_edges, ends or last, asks_skipped)


def _by_end(graph: Graph, end: str, without: frozenset[int]) -> dict[str, tuple[int, ...]]:
    """Group the indices of the edges by their source or target."""
    groups: dict[str, list[int]] = {node.name: [] for node in graph.nodes}
    for i, edge in enumerate(graph.edges):
        if i not in without:
            groups[getattr(edge, end)].append(i)
    return {name: tuple(group) for name, group in groups.items()}


def _reverse_postorder(graph: Graph, outgoing: Adjacency) -> list[str]:
    """Return the nodes that can be reached, each before those it dominates."""
    postorder: list[str] = []
    seen = {graph.entry}
    stack = [(graph.entry, iter(outgoing[graph.entry]))]
    while stack:
        name, edges = stack[-1]
        for i in edges:
            target = graph.edges[i].target
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(outgoing[target])))
                break
        else:
            postorder.append(name)
            stack.pop()
    return postorder[::-1]


def _dominators(graph: Graph, order: list[str], number: Mapping[str, int]) -> list[int]:
    """Return each node's immediate dominator, by number; the entry is its own.

    Edges against the order are left out. If each leads to a dominator of its source, they change no dominators; if one
    does not, some cycle has two entries, and then the rest does not matter.
    """
    sources: list[list[int]] = [[] for _ in order]
    for edge in graph.edges:
        if number[edge.source] < number[edge.target]:
            sources[number[edge.target]].append(number[edge.source])
    dominator = [0] * len(order)
    for node in range(1, len(order)):
        best, *others = sources[node]
        for other in others:
            lower = other
            while best != lower:
                best, lower = dominator[max(best, lower)], min(best, lower)
        dominator[node] = best
    return dominator


def _dominated(dominator: list[int]) -> tuple[list[int], list[int]]:
    """Number the nodes anew, each followed by those it dominates: from its own number to that of the last of them."""
    size = [1] * len(dominator)
    for node in range(len(dominator) - 1, 0, -1):
        size[dominator[node]] += size[node]
    first, free = [0] * len(dominator), [1] * len(dominator)
    for node in range(1, len(dominator)):
        upper = dominator[node]
        first[node] = free[upper]
        free[upper] += size[node]
        free[node] = first[node] + 1
    return first, [start + count - 1 for start, count in zip(first, size, strict=True)]


def _tangled(graph: Graph, back_edges: frozenset[int]) -> Iterator[Problem]:
    """Yield the problem of a cycle that has more than one entry: what is left when back edges are taken away."""
    if ring := _ring([(edge.source, edge.target) for i, edge in enumerate(graph.edges) if i not in back_edges]):
        yield Problem(
            "edges",
            "irreducible_cycle",
            f"The cycle through {_listed(ring)} can be entered at more than one node; "
            "let every path into it go through the same node first.",
        )


def _ring(edges: Sequence[tuple[T, T]]) -> list[T]:
    """Return the nodes of some cycle of these edges, one after the other; none if there is no cycle."""
    sources: dict[T, list[T]] = {source: [] for source, _ in edges}
    targets: dict[T, list[T]] = {source: [] for source, _ in edges}
    for source, target in edges:
        if target in sources:
            sources[target].append(source)
            targets[source].append(target)
    waiting = {name: len(sources[name]) for name in sources}
    ready = [name for name in waiting if not waiting[name]]
    while ready:
        for target in targets[ready.pop()]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    # Each node that is left waits for another that is left: walking backwards must come round.
    name = next((name for name in waiting if waiting[name]), None)
    walked: dict[T, int] = {}
    while name is not None and name not in walked:
        walked[name] = len(walked)
        name = next(source for source in sources[name] if waiting[source])
    return [] if name is None else list(walked)[walked[name] :][::-1]


def _loops(graph: Graph, order: list[str], joins: Adjacency, back_edges: frozenset[int]) -> dict[str, Loop] | Problem:
    """Return the loops by header, inner ones before those around them; or that they are too deep in each other."""
    closing: dict[str, list[int]] = {}
    for i in sorted(back_edges):
        closing.setdefault(graph.edges[i].target, []).append(i)
    directly, around = _nesting(graph, order, joins, closing)
    depth: dict[str, int] = {}
    nodes: dict[str, frozenset[str]] = {}
    for header, members in directly.items():
        inner = [name for name in members if name in directly]
        depth[header] = 1 + max((depth[name] for name in inner), default=0)
        if depth[header] > MAX_NESTING:
            message = f"Cycles are nested more than {MAX_NESTING} deep; the outermost of them starts at {header!r}."
            return Problem(f"edges[{closing[header][0]}]", "loops_too_deep", message)
        nodes[header] = frozenset({header}).union(members, *(nodes[name] for name in inner))
    exits: dict[str, list[int]] = {header: [] for header in directly}
    inside: dict[str, list[int]] = {header: [] for header in directly}
    for i, edge in enumerate(graph.edges):
        left, loop = None, edge.source if edge.source in directly else around.get(edge.source)
        while loop is not None and edge.target not in nodes[loop]:
            left, loop = loop, around.get(loop)
        if left is not None:
            exits[left].append(i)
        while loop is not None:
            inside[loop].append(i)
            loop = around.get(loop)
    return {
        header: Loop(header, nodes[header], tuple(closing[header]), frozenset(inside[header]), tuple(exits[header]))
        for header in directly
    }


def _nesting(
    graph: Graph, order: list[str], joins: Adjacency, closing: Mapping[str, list[int]]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return what is directly inside each loop, nodes and inner loops' headers, innermost first; and its reverse."""
    directly: dict[str, list[str]] = {}
    around: dict[str, str] = {}
    # A loop that was found stands for all its nodes, by its header.
    outermost: dict[str, str] = {}
    for header in (name for name in reversed(order) if name in closing):
        directly[header] = []
        todo = [graph.edges[i].source for i in closing[header]]
        while todo:
            name = _follow(outermost, todo.pop())
            if name != header:
                around[name] = outermost[name] = header
                directly[header].append(name)
                todo += (graph.edges[i].source for i in joins[name])
    return directly, around


def _follow(links: dict[str, str], name: str) -> str:
    """Return the end of a chain of links, shortening it for the next time."""
    while name in links:
        further = links[name]
        links[name] = links.get(further, further)
        name = further
    return name


def _endless(graph: Graph, loops: Mapping[str, Loop], outgoing: Adjacency) -> Iterator[Problem]:
    for loop in loops.values():
        if all(graph.edges[i].target in loop.nodes for name in loop.nodes for i in outgoing[name]):
            names = _listed([node.name for node in graph.nodes if node.name in loop.nodes])
            message = f"No edge leads out of the cycle through {names}: it could never end."
            yield Problem(f"edges[{loop.back_edges[0]}]", "unbounded_loop", message)


def _idle(graph: Graph, outgoing: Adjacency, back_edges: frozenset[int]) -> Iterator[Problem]:
    """Yield the problem of a cycle that goes round without a single attempt, so that nothing could ever end it.

    Nodes are told apart by whether they are skipped: what is skipped makes no attempt either, and an edge may be taken
    on that. The list of a map may be empty, and a subgraph may do nothing; but a wait takes an event, or time. No cycle
    goes round by a back edge that is not taken.
    """
    followed: list[tuple[tuple[str, bool], tuple[str, bool]]] = []
    for node in graph.nodes:
        edges = [(i, graph.edges[i]) for i in outgoing[node.name]]
        works = node.type is NodeType.WAIT or (node.function is not None and node.type is not NodeType.MAP)
        if not works and not any(edge.condition for _, edge in edges):
            on_success = [i for i, edge in edges if Outcome.SUCCEEDED in edge.on]
            taken = [i for i in on_success if not graph.edges[i].default] or on_success
            followed += (
                ((node.name, False), (edge.target, i not in taken))
                for i, edge in edges
                if i in taken or i not in back_edges
            )
        followed += (
            ((node.name, True), (edge.target, Outcome.SKIPPED not in edge.on))
            for i, edge in edges
            if i not in back_edges
        )
    if ring := _ring(followed):
        names = _listed([name for name, _ in ring])
        message = (
            f"In the cycle through {names} it may be that no function runs, and no condition is asked: "
            "it could never end."
        )
        yield Problem("edges", "unbounded_loop", message)


def _back(graph: Graph, back_edges: frozenset[int]) -> Iterator[Problem]:
    for i in sorted(back_edges):
        edge = graph.edges[i]
        if edge.on != ON_SUCCESS:
            message = (
                f"The edge from {edge.source!r} to {edge.target!r} closes a cycle, so it is taken on success only; "
                "let it lead to another node of the cycle, and that one back."
            )
            yield Problem(f"edges[{i}].on", "on_with_back_edge", message)


def _unmet(graph: Graph, joins: Adjacency) -> Iterator[Problem]:
    for i, node in enumerate(graph.nodes):
        if node.join is not None and node.join > len(joins[node.name]):
            message = f"{node.name!r} has {len(joins[node.name])} inputs, those that close a cycle not counted."
            yield Problem(f"nodes[{i}].join", "too_few_inputs", message)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN]))
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown
