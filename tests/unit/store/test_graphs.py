from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from sandgraph.errors import InvalidInput, NotFound
from sandgraph.model.document import to_document
from sandgraph.model.graph import Condition, Edge, Graph, Node, NodeType, OnMax
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.retry import Retry
from sandgraph.store import tables
from sandgraph.store.filters import GraphFilter
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def test_a_graph_comes_back_as_it_was(store: Store) -> None:
    graph = Graph(
        "with everything ☃",
        (
            Node("start", NodeType.START),
            Node(
                "loop",
                NodeType.LOOP,
                "f",
                Condition("state.n < 5"),
                10,
                OnMax.FAIL,
                Limits(cpus=0.5),
                Retry(max_attempts=3, jitter=False),
            ),
            Node("end", NodeType.END),
        ),
        (Edge("start", "loop"), Edge("loop", "end", Condition(function="done")), Edge("loop", "start", default=True)),
        max_steps=7,
        timeout_s=1.5,
        isolation=Isolation.RUN,
        runtime="runsc",
    )
    version, created = await store.save_graph(graph)
    assert created
    assert version.graph_id.startswith("graph_")
    assert (version.name, version.version, version.graph) == (graph.name, 1, graph)
    assert await store.graph(version.graph_id) == version


async def test_the_same_document_is_the_same_version(store: Store, graph: Graph) -> None:
    one, _ = await store.save_graph(graph)
    assert await store.save_graph(graph) == (one, False)
    two, created = await store.save_graph(replace(graph, max_steps=5))
    assert created
    assert (two.name, two.version) == (one.name, 2)
    assert two.graph_id > one.graph_id
    three, created = await store.save_graph(graph)
    assert created
    assert three.version == 3
    assert (await store.graph(one.graph_id)).graph == graph


async def test_a_graph_of_an_earlier_release_is_the_same_version(store: Store, graph: Graph) -> None:
    version, _ = await store.save_graph(graph)
    old = {name: value for name, value in to_document(graph).items() if name not in {"isolation", "runtime"}}
    await store._database.write(lambda connection: connection.execute(update(tables.graph).values(document=old)))
    assert (await store.graph(version.graph_id)).graph == graph
    assert await store.save_graph(graph) == (version, False)


async def test_an_unknown_graph_is_not_found(store: Store) -> None:
    for graph_id in ("graph_nothing", "", "\ud800", "\x00"):
        with pytest.raises(NotFound) as missing:
            await store.graph(graph_id)
        assert missing.value.code == "graph_not_found"


async def test_lists_are_newest_first_and_stable_under_inserts(store: Store, graph: Graph) -> None:
    made = [(await store.save_graph(replace(graph, name=name, max_steps=i)))[0] for i, name in enumerate("ababa", 1)]
    first = await store.list_graphs(limit=2)
    assert list(first.items) == made[:2:-1]
    await store.save_graph(replace(graph, name="c"))
    second = await store.list_graphs(cursor=first.next_cursor, limit=3)
    assert list(second.items) == made[2::-1]
    assert second.next_cursor is None

    of_a = await store.list_graphs(GraphFilter(name="a"), limit=2)
    assert list(of_a.items) == [made[4], made[2]]
    rest = await store.list_graphs(GraphFilter(name="a"), limit=2, cursor=of_a.next_cursor)
    assert list(rest.items) == [made[0]]
    assert (await store.list_graphs(GraphFilter(name="nothing"))).items == ()


async def test_what_is_no_cursor_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput):
        await store.list_graphs(cursor="nonsense")
