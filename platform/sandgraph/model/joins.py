"""Joins that do not wait for all of their inputs, and what nobody waits for any more once one has started."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sandgraph.model.graph import Graph
from sandgraph.model.topology import Topology


def unneeded(graph: Graph, topology: Topology, started: Collection[str]) -> frozenset[str]:
    """Return the nodes from which every path leads into a join that has started.

    A way round to a next iteration counts, as the joins in the cycle start anew in it.

    Args:
        graph: A valid graph.
        topology: Its shape.
        started: Joins that started before all their inputs were decided.
    """
    inside = {header: loop.nodes - {header} for header, loop in topology.loops.items()}
    # Of joins in other cycles it is not asked whether they start anew too: what is needed for them alone is kept.
    for_good = set(started).difference(*inside.values())
    later = _needed(graph, topology, for_good, ())
    again = [header for header in inside if header in later and not inside[header].isdisjoint(started)]
    sources = [graph.edges[i].source for header in again for i in topology.loops[header].back_edges]
    return frozenset(topology.nodes).difference(_needed(graph, topology, started, sources))


def _needed(graph: Graph, topology: Topology, started: Collection[str], also: Sequence[str]) -> set[str]:
    sources: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for i, edge in enumerate(graph.edges):
        if edge.target not in started or i in topology.back_edges:
            sources[edge.target].append(edge.source)
    todo = [*also, *topology.ends, *(name for name, edges in topology.outgoing.items() if not edges)]
    needed = set(todo)
    while todo:
        further = {source for source in sources[todo.pop()] if source not in needed}
        needed |= further
        todo += further
    return needed
