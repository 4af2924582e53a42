"""Graphs of graphs: which belong to a run, and which are too many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.model.graphs import graph_of, loop, subgraph

from sandgraph.errors import InvalidInput, NotFound
from sandgraph.execution import plans
from sandgraph.model.graph import Condition, Graph, Node, NodeType
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path)
    yield opened
    await opened.close()


async def saved(store: Store, graph: Graph) -> str:
    return (await store.save_graph(graph))[0].graph_id


def outer(*graph_ids: str, name: str = "outer") -> Graph:
    names = [f"s{number}" for number in range(len(graph_ids))]
    edges = " ".join(f"start>{one} {one}>end" for one in names)
    return replace(graph_of(edges, *map(subgraph, names, graph_ids)), name=name)


async def nest(store: Store, depth: int) -> str:
    """Return the id of a graph with so many graphs inside each other, itself among them."""
    graph_id = await saved(store, replace(graph_of("start>a a>end"), name="0"))
    for number in range(1, depth):
        graph_id = await saved(store, outer(graph_id, name=str(number)))
    return graph_id


async def found(store: Store, graph: Graph, **options: int) -> list[tuple[str, str]]:
    problems = await plans.problems(store, graph, Settings(**options), "default")  # type: ignore[arg-type]
    return [(each.path, each.code) for each in problems]


async def test_a_graph_without_subgraphs_has_none(store: Store) -> None:
    graph = graph_of("start>a a>end")
    assert await plans.nested_graphs(store, graph) == {}
    assert await found(store, graph, max_nodes=1) == []


async def test_every_graph_at_any_depth_is_found_once(store: Store) -> None:
    leaf = await saved(store, replace(graph_of("start>a a>end"), name="leaf"))
    middle = await saved(store, outer(leaf, leaf, name="middle"))
    graph = outer(middle, leaf, middle)
    nested = await plans.nested_graphs(store, graph)
    assert {graph_id: each.name for graph_id, each in nested.items()} == {leaf: "leaf", middle: "middle"}
    assert await found(store, graph) == []


async def test_a_graph_that_there_is_not_is_named_where_it_is(store: Store) -> None:
    leaf = await saved(store, graph_of("start>a a>end"))
    assert await found(store, outer(leaf, "graph_0", leaf, "graph_1")) == [
        ("nodes[3].graph_id", "unknown_graph"),
        ("nodes[5].graph_id", "unknown_graph"),
    ]
    with pytest.raises(NotFound):
        await plans.nested_graphs(store, outer("graph_0"))


async def test_eight_graphs_may_be_inside_each_other(store: Store) -> None:
    assert await found(store, outer(await nest(store, plans.MAX_DEPTH - 1))) == []
    graph = outer(await nest(store, plans.MAX_DEPTH))
    path = next(f"nodes[{index}].graph_id" for index, node in enumerate(graph.nodes) if node.graph_id)
    assert await found(store, graph) == [(path, "subgraphs_too_deep")]


async def test_all_nodes_together_are_bounded(store: Store) -> None:
    leaf = await saved(store, graph_of(" ".join(f"start>n{n} n{n}>end" for n in range(10))))
    graph = outer(leaf)
    assert len(graph.nodes) == 3
    # Twelve inside, and three.
    assert await found(store, graph, max_nodes=2) == []
    assert await found(store, graph, max_nodes=1) == [("nodes", "too_many_nodes")]
    # A version that is named twice is one.
    assert await found(store, outer(leaf, leaf, leaf), max_nodes=2) == []


def test_functions_are_those_of_nodes_and_conditions() -> None:
    asks = loop("l", 2)
    asks = replace(asks, condition=Condition(function="asks"))
    graphs = [graph_of("start>a a>end"), graph_of("start>l l>end", asks), Graph("g", (Node("s", NodeType.START),))]
    assert plans.functions_of(graphs) == {"a", "l", "asks"}
    assert plans.functions_of([]) == set()


async def test_a_plan_has_all_that_its_run_pinned(store: Store) -> None:
    for name in ("a", "b"):
        await store.save_code(CodeKind.FUNCTION, name, f"def {name}(state): pass")
    inner = replace(graph_of("start>b b>end"), name="inner", runtime="runsc")
    leaf = await saved(store, inner)
    version, _ = await store.save_graph(graph_of("start>a a>s s>end", subgraph("s", leaf)))
    functions = await store.latest_code(CodeKind.FUNCTION, {"a", "b"})
    run, _ = await store.create_run(version, {}, functions=functions, tools={}, image="image")
    await store.save_code(CodeKind.FUNCTION, "b", "def b(state): return {}")
    plan = await plans.load_plan(store, run)
    assert (plan.run_id, plan.own.graph, list(plan.graphs)) == (run.run_id, version.graph, [leaf])
    assert {name: each.version for name, each in plan.functions.items()} == {"a": 1, "b": 1}
    fresh = plans.fresh(plan)
    assert (fresh.graph, fresh.subgraphs, fresh.latest) == (version.graph, plan.graphs, None)
    assert plans.refusal(plan, ["runsc"]) is None
    assert "'runsc'" in (plans.refusal(plan, ["runc"]) or "")


async def test_a_graph_that_this_release_would_not_take_makes_no_plan(store: Store) -> None:
    leaf = await saved(store, graph_of("start>a a>b b>a"))
    version, _ = await store.save_graph(outer(leaf))
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    with pytest.raises(InvalidInput):
        await plans.load_plan(store, run)
