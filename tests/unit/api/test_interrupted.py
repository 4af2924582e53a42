"""What clients see of a run that was interrupted and goes on after the platform's next start."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from api_world import World, record
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from sandgraph.api.views import accepted_view, record_view
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import RunStatus
from sandgraph.store.records import JournalRecord, RunRecord

pytestmark = pytest.mark.anyio

GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))
HANDED_BACK = replace(record(2, "It goes on.", type_="run", status="interrupted"), data={"resumes": True})


@pytest.fixture
async def run(world: World) -> RunRecord:
    graph, _ = await world.catalog.create_graph(GRAPH)
    world.runs.hold = True
    made, _ = await world.runs.submit(graph.graph_id, {})
    run = world.runs.records[made.run_id] = replace(world.runs.records[made.run_id], status=RunStatus.INTERRUPTED)
    return run


async def test_a_follower_is_told_to_come_back_not_that_the_run_ended(
    world: World, run: RunRecord, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow(_: str, after: int) -> AsyncGenerator[list[JournalRecord]]:
        assert after == 0
        yield [record(1, "one"), HANDED_BACK]

    monkeypatch.setattr(world.runs, "follow", follow)
    async with connect(f"ws://127.0.0.1:{port}/graph/ws/{run.run_id}") as websocket:
        seen = [json.loads(await websocket.recv()) for _ in range(2)]
        assert [(each["type"], each["final"]) for each in seen] == [("node", False), ("run", False)]
        with pytest.raises(ConnectionClosedError):
            await websocket.recv()
        assert websocket.close_code == 1012


def test_only_a_run_that_does_not_go_on_has_ended() -> None:
    assert not record_view(HANDED_BACK)["final"]
    assert record_view(replace(HANDED_BACK, data={}))["final"]


async def test_who_starts_it_again_by_its_key_hears_that_it_runs(run: RunRecord) -> None:
    assert accepted_view(run, "")["status"] == "running"
    assert accepted_view(replace(run, finished_at=run.created_at), "")["status"] == "interrupted"
