"""The graphs that runs are made of: a graph version, and those that its subgraphs run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sandgraph.errors import InvalidInput, NotFound, Problem
from sandgraph.execution import runtimes
from sandgraph.execution.jobs import RunPlan
from sandgraph.model import scheduler
from sandgraph.model.graph import Graph
from sandgraph.model.progress import Blueprint
from sandgraph.model.topology import analyse
from sandgraph.settings import Settings
from sandgraph.store.known import Recent
from sandgraph.store.records import GraphVersion, RunSummary
from sandgraph.store.store import Store

#: Graphs inside each other, the outermost among them.
MAX_DEPTH = 8

#: Of graph versions that were run last, which never change.
_BLUEPRINTS = Recent[str, Blueprint](64)

#: Nodes of all graphs inside each other, as a multiple of what one may have.
_NESTED = 10


async def graph_of(store: Store, graph_id: str, tenant: str) -> GraphVersion:
    """Return a graph version of a tenant.

    Raises:
        NotFound: It has none of that id.
    """
    version = await store.graph(graph_id)
    if version.tenant != tenant:
        raise NotFound("graph", graph_id)
    return version


async def nested_graphs(store: Store, graph: Graph) -> dict[str, Graph]:
    """Return the graph versions that subgraphs run, at any depth, by their ids.

    Raises:
        NotFound: There is no such version.
    """
    found: dict[str, Graph] = {}
    todo = list(_named(graph))
    while todo:
        graph_id = todo.pop()
        if graph_id not in found:
            found[graph_id] = (await store.graph(graph_id)).graph
            todo += _named(found[graph_id])
    return found


async def problems(store: Store, graph: Graph, settings: Settings, tenant: str) -> list[Problem]:
    """Return what is wrong with the graphs that the subgraphs of a tenant's graph run."""
    found, known = list[Problem](), dict[str, Graph]()
    for index, node in enumerate(graph.nodes):
        if node.graph_id is None:
            continue
        path = f"nodes[{index}].graph_id"
        try:
            inner = (await graph_of(store, node.graph_id, tenant)).graph
        except NotFound:
            message = f"There is no graph {node.graph_id!r}; create it first."
            found.append(Problem(path, "unknown_graph", message))
            continue
        inside = {node.graph_id: inner, **await nested_graphs(store, inner)}
        known |= inside
        depth = 1 + _depth(node.graph_id, inside, {})
        if depth > MAX_DEPTH:
            message = f"With it, {depth} graphs are inside each other; there may be {MAX_DEPTH}."
            found.append(Problem(path, "subgraphs_too_deep", message))
    limit = _NESTED * settings.max_nodes
    count = len(graph.nodes) + sum(len(inner.nodes) for inner in known.values())
    if known and count > limit:
        message = f"With those of its subgraphs there are {count} nodes; there may be {limit}."
        found.append(Problem("nodes", "too_many_nodes", message))
    return found


def functions_of(graphs: Iterable[Graph]) -> set[str]:
    """Return the names of the functions that graphs need."""
    return {name for graph in graphs for _, name in graph.functions()}


async def load_plan(store: Store, run: RunSummary) -> RunPlan:
    """Return what a run pinned.

    Raises:
        InvalidInput: A graph was stored by a release that accepted it.
    """
    graph = (await store.graph(run.graph_id)).graph
    nested = await nested_graphs(store, graph)
    functions, tools = await store.run_code(run.run_id)
    graphs = {graph_id: _blueprint(graph_id, each) for graph_id, each in nested.items()}
    return RunPlan(run.run_id, _blueprint(run.graph_id, graph), functions, tools, graphs, run.tenant, run.trace)


def fresh(plan: RunPlan) -> scheduler.Run:
    """Return a run before it is told anything."""
    return scheduler.Run(plan.own.graph, plan.own.topology, subgraphs=plan.graphs)


def refusal(plan: RunPlan, allowed: Sequence[str]) -> str | None:
    """Return why the runtime of one of a run's graphs cannot be had; None if all can."""
    graphs = [plan.own, *plan.graphs.values()]
    return next((message for each in graphs if (message := runtimes.refusal(each.graph, allowed))), None)


def _blueprint(graph_id: str, graph: Graph) -> Blueprint:
    known = _BLUEPRINTS.get(graph_id)
    if known is not None and known.graph is graph:
        return known
    topology = analyse(graph)
    if isinstance(topology, list):
        raise InvalidInput(topology)
    made = Blueprint(graph, topology)
    _BLUEPRINTS.keep(graph_id, made)
    return made


def _named(graph: Graph) -> list[str]:
    return [node.graph_id for node in graph.nodes if node.graph_id is not None]


def _depth(graph_id: str, graphs: dict[str, Graph], known: dict[str, int]) -> int:
    """Return how many graphs are inside each other, from this one on: they are immutable, so none is inside itself."""
    if graph_id not in known:
        known[graph_id] = 1 + max((_depth(each, graphs, known) for each in _named(graphs[graph_id])), default=0)
    return known[graph_id]
