"""The shape of a graph: what can be reached, which edges close cycles, and which edges leave which loops.

An edge u→v is a back edge when v dominates u; the loop of a header v is v and everything that reaches one of its back
edges without passing v (natural loops: Aho, Lam, Sethi, Ullman, *Compilers*, 2nd ed., 9.6). Dominators are computed as
in Cooper, Harvey, Kennedy, *A Simple, Fast Dominance Algorithm*, 2001.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sandgraph.errors import Problem
from sandgraph.model.graph import Graph, Node

Adjacency = Mapping[str, tuple[int, ...]]


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
        loops: Innermost first.
        exits: Indices of the edges that leave a loop.
        back_edges: Indices of the edges that close a cycle.
    """

    nodes: Mapping[str, Node]
    outgoing: Adjacency
    joins: Adjacency
    loops: tuple[Loop, ...]
    exits: frozenset[int]
    back_edges: frozenset[int]


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
    dominator = _dominators(graph, order, number)
    back_edges = frozenset(
        i for i, edge in enumerate(graph.edges) if _dominates(edge.target, edge.source, dominator, number)
    )
    joins = _by_end(graph, "target", back_edges)
    if tangled := _tangled(graph, order, outgoing, joins, back_edges):
        return [tangled]
    loops = _loops(graph, back_edges)
    if endless := list(_endless(graph, loops)):
        return endless
    nodes = {node.name: node for node in graph.nodes}
    exits = frozenset(i for loop in loops for i in loop.exits)
    return Topology(nodes, outgoing, joins, loops, exits, back_edges)


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
    """Return each node's immediate dominator, by number; the entry is its own."""
    sources: list[list[int]] = [[] for _ in order]
    for edge in graph.edges:
        sources[number[edge.target]].append(number[edge.source])
    unknown = -1
    dominator = [0, *[unknown] * (len(order) - 1)]
    changed = True
    while changed:
        changed = False
        for node in range(1, len(order)):
            known = [source for source in sources[node] if dominator[source] != unknown]
            best = known[0]
            for other in known[1:]:
                one, two = best, other
                while one != two:
                    if one > two:
                        one = dominator[one]
                    else:
                        two = dominator[two]
                best = one
            if dominator[node] != best:
                dominator[node] = best
                changed = True
    return dominator


def _dominates(upper: str, lower: str, dominator: list[int], number: Mapping[str, int]) -> bool:
    wanted, node = number[upper], number[lower]
    while node > wanted:
        node = dominator[node]
    return node == wanted


def _tangled(
    graph: Graph, order: list[str], outgoing: Adjacency, joins: Adjacency, back_edges: frozenset[int]
) -> Problem | None:
    """Return the problem of a cycle that has more than one entry: what is left when back edges are taken away."""
    waiting = {name: len(joins[name]) for name in order}
    ready = [name for name in order if not waiting[name]]
    while ready:
        for i in outgoing[ready.pop()]:
            if i not in back_edges:
                target = graph.edges[i].target
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
    stuck = [name for name in order if waiting[name]]
    if not stuck:
        return None
    # Each stuck node waits for another stuck one: walking backwards must come round.
    left, path, name = set(stuck), dict[str, None](), stuck[0]
    while name not in path:
        path[name] = None
        name = next(graph.edges[i].source for i in joins[name] if graph.edges[i].source in left)
    walked = list(path)
    cycle = walked[walked.index(name) :][::-1]
    return Problem(
        "edges",
        "irreducible_cycle",
        f"The cycle through {', '.join(map(repr, cycle))} can be entered at more than one node; "
        "let every path into it go through the same node first.",
    )


def _loops(graph: Graph, back_edges: frozenset[int]) -> tuple[Loop, ...]:
    sources: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for edge in graph.edges:
        sources[edge.target].append(edge.source)
    bodies: dict[str, set[str]] = {}
    for i in sorted(back_edges):
        body = bodies.setdefault(graph.edges[i].target, {graph.edges[i].target})
        todo = [graph.edges[i].source]
        while todo:
            name = todo.pop()
            if name not in body:
                body.add(name)
                todo += sources[name]
    # A loop inside another has fewer nodes, as two natural loops are nested or share no more than nothing.
    inner_first = sorted(bodies.items(), key=lambda item: len(item[1]))
    outermost_left: dict[int, str] = {}
    for header, body in inner_first:
        for i, edge in enumerate(graph.edges):
            if edge.source in body and edge.target not in body:
                outermost_left[i] = header
    return tuple(
        Loop(
            header,
            frozenset(body),
            tuple(i for i in sorted(back_edges) if graph.edges[i].target == header),
            frozenset(i for i, edge in enumerate(graph.edges) if edge.source in body and edge.target in body),
            tuple(i for i, left in sorted(outermost_left.items()) if left == header),
        )
        for header, body in inner_first
    )


def _endless(graph: Graph, loops: tuple[Loop, ...]) -> Iterator[Problem]:
    for loop in loops:
        if not any(edge.source in loop.nodes and edge.target not in loop.nodes for edge in graph.edges):
            names = ", ".join(repr(node.name) for node in graph.nodes if node.name in loop.nodes)
            yield Problem(
                f"edges[{loop.back_edges[0]}]",
                "unbounded_loop",
                f"No edge leads out of the cycle through {names}: it could never end.",
            )
