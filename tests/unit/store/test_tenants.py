"""What is one tenant's is nobody else's: names, versions, ids, keys."""

from __future__ import annotations

import pytest

from sandgraph.errors import Conflict
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import RunStatus
from sandgraph.store.filters import GraphFilter
from sandgraph.store.records import CodeKind, CodeVersion, GraphVersion, RunRecord
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def run_of(store: Store, graph: GraphVersion, key: str | None = None, fingerprint: str = "f") -> RunRecord:
    pinned = await store.latest_code(CodeKind.FUNCTION, ["f"], tenant=graph.tenant)
    tools = await store.all_tools(tenant=graph.tenant)
    made, _ = await store.create_run(
        graph, {}, functions=pinned, tools=tools, image="i", idempotency_key=key, fingerprint=fingerprint
    )
    return made


async def test_a_name_has_versions_of_its_own_with_each_tenant(store: Store) -> None:
    made: list[tuple[CodeVersion, bool]] = []
    for tenant, code in (("a", "one"), ("a", "two"), ("b", "one"), ("default", "three")):
        made.append(await store.save_code(CodeKind.FUNCTION, "f", code, tenant=tenant))
    assert [(version.version, is_new) for version, is_new in made] == [(1, True), (2, True), (1, True), (1, True)]
    for tenant, code in (("a", "two"), ("b", "one"), ("default", "three")):
        assert (await store.latest_code(CodeKind.FUNCTION, ["f"], tenant=tenant))["f"].code == code
        # A second time, from memory.
        assert (await store.latest_code(CodeKind.FUNCTION, ["f"], tenant=tenant))["f"].code == code
        assert [each.code for each in (await store.list_code(CodeKind.FUNCTION, tenant=tenant)).items] == [code]


async def test_an_attempt_gets_the_tools_of_its_tenant(store: Store) -> None:
    for tenant in ("a", "b"):
        await store.save_code(CodeKind.TOOL, f"tool_{tenant}", "…", tenant=tenant)
    for _ in range(2):
        assert set(await store.all_tools(tenant="a")) == {"tool_a"}
        assert set(await store.all_tools(tenant="b")) == {"tool_b"}
        assert not await store.all_tools(tenant="c")


async def test_graphs_of_one_name_are_versioned_and_listed_by_tenant(store: Store) -> None:
    graph = Graph("g", (), ())
    ours, _ = await store.save_graph(graph, tenant="a")
    theirs, is_new = await store.save_graph(graph, tenant="b")
    assert is_new
    assert (theirs.version, theirs.tenant, (await store.graph(theirs.graph_id)).tenant) == (1, "b", "b")
    for name in (None, "g"):
        found = await store.list_graphs(GraphFilter(name), tenant="a")
        assert [each.graph_id for each in found.items] == [ours.graph_id]
    assert not (await store.list_graphs()).items


async def test_a_run_is_its_graphs_tenants(store: Store) -> None:
    for tenant in ("a", "b"):
        await store.save_code(CodeKind.FUNCTION, "f", f"of {tenant}", tenant=tenant)
        await store.save_code(CodeKind.TOOL, "t", f"tool of {tenant}", tenant=tenant)
    graphs = [(await store.save_graph(Graph("g", (), ()), tenant=tenant))[0] for tenant in ("a", "b")]
    run_a, run_b = [await run_of(store, graph) for graph in graphs]
    assert (run_a.tenant, run_b.tenant) == ("a", "b")
    assert (await store.tenant_of(run_b.run_id), await store.tenant_of(run_b.run_id)) == ("b", "b")
    assert [each.run_id for each in (await store.list_runs(tenant="b")).items] == [run_b.run_id]
    assert {each.run_id for each in (await store.list_runs()).items} == {run_a.run_id, run_b.run_id}
    # From the database, and not as it is remembered.
    store._known.pinned.clear()
    functions, tools = await store.run_code(run_b.run_id)
    assert (functions["f"].code, tools["t"].code) == ("of b", "tool of b")


async def test_two_tenants_may_use_the_same_idempotency_key(store: Store) -> None:
    graph_a, graph_b = [(await store.save_graph(Graph("g", (), ()), tenant=tenant))[0] for tenant in ("a", "b")]
    first = await run_of(store, graph_a, "key")
    assert (await run_of(store, graph_b, "key", "another")).run_id != first.run_id
    assert (await run_of(store, graph_a, "key")).run_id == first.run_id
    with pytest.raises(Conflict, match="another request"):
        await run_of(store, graph_a, "key", "another")


async def test_the_load_of_a_graph_does_not_count_other_tenants(store: Store) -> None:
    graph, _ = await store.save_graph(Graph("g", (), ()), tenant="a")
    run = await run_of(store, graph)
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
    assert (await store.graph_load("a", "g"), await store.graph_load("b", "g")) == (1, 0)
