"""Tenants in the store: their quotas, and what they use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date

import pytest

from sandgraph.errors import Conflict
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey
from sandgraph.model.state import Json
from sandgraph.store.columns import to_json
from sandgraph.store.journal import RECORD_BYTES
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

Begin = Callable[[str, int], Awaitable[NodeRunKey]]
Succeed = Callable[[NodeRunKey, int, dict[str, Json]], Awaitable[int]]


async def test_quotas_are_changed_by_who_has_seen_them(store: Store) -> None:
    assert (await store.tenants.get("acme")).version == 0
    first = await store.tenants.set_quotas("acme", {"max_active_runs": 3}, {0})
    assert (first.version, first.quotas) == (1, {"max_active_runs": 3})
    with pytest.raises(Conflict, match="version 1") as refused:
        await store.tenants.set_quotas("acme", {}, {0})
    assert refused.value.code == "tenant_changed"
    second = await store.tenants.set_quotas("acme", {"stored_mb": 5}, {0, 1})
    assert (second.version, second.quotas, second.created_at) == (2, {"stored_mb": 5}, first.created_at)
    assert (await store.tenants.set_quotas("acme", {}, None)).version == 3
    assert await store.tenants.own_quotas() == {"acme": {}}


async def test_tenants_are_listed_of_which_there_is_something(store: Store, graph: Graph) -> None:
    for tenant in ("c", "a"):
        await store.tenants.set_quotas(tenant, {}, None)
    for tenant in ("b", "a"):
        await store.save_graph(graph, tenant=tenant)
    await store.keys.create("d", "key", [], created_by="me")
    page = await store.tenants.page(limit=3)
    assert [each.tenant for each in page.items] == ["a", "b", "c"]
    page = await store.tenants.page(limit=3, cursor=page.next_cursor)
    assert [each.tenant for each in page.items] == ["d"]
    assert page.next_cursor is None


async def test_use_adds_up_by_day(store: Store) -> None:
    today, tomorrow = date(2026, 11, 23), date(2026, 11, 24)
    await store.tenants.add_usage(today, {"a": (1.5, 2), "b": (0.25, 1)})
    await store.tenants.add_usage(today, {"a": (0.5, 1)})
    await store.tenants.add_usage(tomorrow, {"a": (4.0, 1)})
    assert await store.tenants.used_on(today) == {"a": 2.0, "b": 0.25}
    assert await store.tenants.used_on(tomorrow) == {"a": 4.0}


async def test_what_is_stored_of_a_run_is_counted_with_every_write(
    store: Store, run_id: str, begin: Begin, succeed: Succeed
) -> None:
    async def stored() -> int:
        return (await store.tenants.stored_bytes())["default"]

    run = await store.run(run_id)
    assert await stored() == len(to_json(run.initial_state)) + run.last_seq * RECORD_BYTES
    key, before = await begin("work", 1), await stored()
    await store.append_logs(run_id, key, 1, [LogLine("stdout", 0.0, "x" * 1_000), LogLine("stderr", 0.0, "y")])
    assert await stored() == before + 1_001 + 2 * RECORD_BYTES
    assert await store.tenants.output_of(run_id) == 1_001
    before, seq = await stored(), (await store.run_summary(run_id)).last_seq
    last = await succeed(key, 1, {"text": "z" * 5_000})
    assert 5_000 < await stored() - before - (last - seq) * RECORD_BYTES < 5_100
    assert (await store.run(run_id)).final_state is None
    assert (await store.commits(run_id))[0].diff.apply({}) == {"text": "z" * 5_000}
