"""A flood of one tenant's runs, and one run of another: the platform over sandboxes in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sandgraph.errors import QueueFull
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.worker import Worker
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import RunStatus
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store
from sandgraph_runner.protocol import Source

pytestmark = pytest.mark.anyio

CODE = "def f(state): pass"

GRAPH = Graph(
    "g",
    (Node("start", NodeType.START), Node("one", function="f"), Node("two", function="f"), Node("end", NodeType.END)),
    (Edge("start", "one"), Edge("one", "two"), Edge("two", "end")),
)


class House:
    """A platform, and what its runs did, in order."""

    def __init__(self, runs: Dispatcher, store: Store, done: list[str]) -> None:
        self.runs = runs
        self.done = done
        self._store = store

    async def begin(self, tenant: str) -> str:
        await self._store.save_code(CodeKind.FUNCTION, "f", CODE, tenant=tenant)
        version, _ = await self._store.save_graph(GRAPH, tenant=tenant)
        record, _ = await self.runs.submit(version.graph_id, {"tenant": tenant}, tenant=tenant)
        return record.run_id

    async def ends(self, run_id: str) -> RunStatus:
        return (await self.runs.wait(run_id, 20)).status


@asynccontextmanager
async def house(folder: Path, does: Callable[[str], object], **options: object) -> AsyncIterator[House]:
    done: list[str] = []

    def f(state: dict[str, str]) -> None:
        tenant = state["tenant"]
        does(tenant)
        done.append(tenant)

    settings = Settings(data_dir=folder, **options)  # type: ignore[arg-type]
    store = await Store.open(folder)
    sandboxes = InProcessSandboxes({Source("f", CODE): f})
    await sandboxes.start()
    runs = Dispatcher(store, Worker(sandboxes, settings.worker_slots), settings, "sha256:image")
    await runs.start()
    try:
        yield House(runs, store, done)
    finally:
        await runs.close()
        await sandboxes.close()
        await store.close()


async def test_the_run_of_another_tenant_has_its_turn_at_once(tmp_path: Path) -> None:
    gate = threading.Event()

    def does(tenant: str) -> None:
        if tenant == "flood":
            gate.wait(20)

    async with house(tmp_path, does, max_active_runs=4, worker_slots=2) as platform:
        flood = [await platform.begin("flood") for _ in range(40)]
        single = await platform.begin("single")
        # All places and slots are taken, and none of them is given back.
        assert await platform.ends(single) is RunStatus.COMPLETED
        assert platform.done == ["single", "single"]
        gate.set()
        assert {await platform.ends(each) for each in flood} == {RunStatus.COMPLETED}


async def test_of_two_floods_neither_is_held_up(tmp_path: Path) -> None:
    gate = threading.Event()
    async with house(tmp_path, lambda _: gate.wait(20), max_active_runs=2, worker_slots=1) as platform:
        first = [await platform.begin("first") for _ in range(30)]
        second = [await platform.begin("second") for _ in range(10)]
        gate.set()
        for each in [*first, *second]:
            assert await platform.ends(each) is RunStatus.COMPLETED
    # While both had runs, their attempts came in turns.
    assert 16 <= platform.done[:40].count("second") <= 20


async def test_a_full_queue_has_room_for_another_tenants_share(tmp_path: Path) -> None:
    gate = threading.Event()
    async with house(tmp_path, lambda _: gate.wait(20), max_active_runs=1, max_queued_runs=4) as platform:
        for _ in range(5):
            await platform.begin("flood")
        with pytest.raises(QueueFull) as refused:
            await platform.begin("flood")
        assert refused.value.code == "queue_full"
        others = [await platform.begin("single") for _ in range(3)]
        with pytest.raises(QueueFull):
            await platform.begin("single")
        gate.set()
        assert {await platform.ends(each) for each in others} == {RunStatus.COMPLETED}


async def test_who_waits_is_told_the_place_that_it_has(tmp_path: Path) -> None:
    gate = threading.Event()
    async with house(tmp_path, lambda _: gate.wait(20), max_active_runs=1) as platform:
        flood = [await platform.begin("flood") for _ in range(10)]
        single = [await platform.begin("single") for _ in range(2)]
        assert await platform.runs.place(single[0]) is None, "it has its share at once"
        place = await platform.runs.place(single[1])
        assert place is not None
        assert place.position == 2, "after one of the flood's, not after all of them"
        last = await platform.runs.place(flood[-1])
        assert last is not None
        assert last.position == 10
        gate.set()
        await asyncio.gather(*map(platform.ends, [*flood, *single]))
