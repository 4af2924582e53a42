"""Two hundred follow one run over HTTP and forty of them take nothing: the others see all, and no memory goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from api_world import World
from bench.tails import Seen, follow

from sandgraph.api.services import Reader, Runs, Services
from sandgraph.execution.bus import Bus
from sandgraph.execution.tails import MOST_BYTES, Tails
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))
KEY = NodeRunKey("work", 1)


class Followed:
    """A store, and what follows it, in the place of services made of dictionaries."""

    def __init__(self, store: Store) -> None:
        self.store, self.bus = store, Bus()
        self.tails = Tails(store, self.bus)
        self.follow = self.tails.follow

    def services(self, made: Services) -> Services:
        return replace(made, runs=cast("Runs", self), reader=cast("Reader", self.store))


@pytest.fixture
async def followed(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    store = await Store.open(tmp_path / "followed")
    made = Followed(store)
    # Before the server is made, which asks the world for them.
    services = world.services
    monkeypatch.setattr(world, "services", lambda tenant="": made.services(services(tenant)))
    yield made
    await made.tails.close()
    await store.close()


async def test_two_hundred_follow_and_forty_of_them_are_slow(followed: Followed, port: int) -> None:
    graph, _ = await followed.store.save_graph(GRAPH)
    run, _ = await followed.store.create_run(graph, {}, functions={}, tools={}, image="image")
    opening, url = asyncio.Semaphore(50), f"http://127.0.0.1:{port}"
    seen = [Seen() for _ in range(160)]
    tasks = [
        asyncio.create_task(follow(url, run.run_id, each, as_events=i % 2 == 0, ready=opening))
        for i, each in enumerate([*seen, *[None] * 40])
    ]
    async with asyncio.timeout(60):
        while followed.tails.readers < 200:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        for i in range(10):
            await followed.store.append_logs(run.run_id, KEY, 1, [LogLine("stdout", 0, f"{i} {'x' * 4_000}")] * 10)
            followed.bus.publish(run.run_id)
        await followed.store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
        await followed.store.apply(run.run_id, [RecordRun(RunStatus.COMPLETED, None, {})])
        followed.bus.publish(run.run_id)
        await asyncio.gather(*tasks[:160])
    assert [each.seqs for each in seen] == [list(range(1, 104))] * 160
    # The slow ones, but for those whose share fits into the kernel's buffers, hold on, and are no more than a number.
    assert followed.tails.readers >= 20
    assert followed.tails.size < MOST_BYTES
    for task in tasks[160:]:
        task.cancel()
    await asyncio.gather(*tasks[160:], return_exceptions=True)
    async with asyncio.timeout(20):
        while followed.tails.readers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert followed.tails.size == 0
