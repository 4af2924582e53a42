"""A platform that is told to stop, in this process: what ends in time counts, and nothing else begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sandgraph.api.schemas import parse_graph
from sandgraph.bootstrap import Platform, open_platform
from sandgraph.errors import Unavailable
from sandgraph.model.run import AttemptStatus, NodeRunKey, RunStatus
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings

pytestmark = pytest.mark.anyio

HOLD = """import os, time
def hold(state):
    print('held')
    while not os.path.exists(state['gate']):
        time.sleep(0.005)
    state.set('held', True)
"""
AFTER = "def after(state):\n    state.set('after', True)\n"

GRAPH: dict[str, Any] = {
    "name": "held",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "hold", "function": "hold"},
        {"name": "after", "function": "after"},
        {"name": "end", "type": "end"},
    ],
    "edges": [
        {"source": "start", "target": "hold"},
        {"source": "hold", "target": "after"},
        {"source": "after", "target": "end"},
    ],
}


@asynccontextmanager
async def opened(folder: Path, **options: object) -> AsyncIterator[Platform]:
    settings = load_settings(data_dir=folder / "data", deployment="draining", **options)
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        for name, code in (("hold", HOLD), ("after", AFTER)):
            await platform.catalog.register_function(name, code)
        yield platform


async def begin(platform: Platform, gate: Path) -> str:
    graph, _ = await platform.catalog.create_graph(parse_graph(dict(GRAPH), platform.settings))
    run, _ = await platform.runs.submit(graph.graph_id, {"gate": str(gate)})
    return run.run_id


async def held(platform: Platform, run_id: str) -> None:
    """Return once the first attempt is under way."""
    async with asyncio.timeout(10):
        async for batch in platform.runs.follow(run_id, 0):
            if any(record.message == "held" for record in batch):
                return


async def tries(platform: Platform, run_id: str, node: str) -> list[AttemptStatus]:
    found = await platform.store.node_runs(run_id)
    return [each.status for node_run in found if node_run.node == node for each in node_run.attempts]


async def test_what_ends_in_time_is_stored_once_and_what_follows_waits_for_the_next_start(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(tmp_path) as platform:
        run_id = await begin(platform, gate)
        await held(platform, run_id)
        draining = asyncio.create_task(platform.drain(10))
        while platform.runs.is_accepting:  # noqa: ASYNC110 - it is so in a moment
            await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await begin(platform, gate)
        assert refused.value.code == "shutting_down"
        assert [each.name for each in (await platform.health.ready()).checks if not each.is_ok] == ["accepting"]
        with pytest.raises(Unavailable) as untried:
            await platform.runs.replay(run_id, NodeRunKey("hold"), None)
        assert untried.value.code == "shutting_down"
        assert not draining.done()
        gate.touch()
        assert await draining
        assert (await platform.store.run_summary(run_id)).last_commit >= 1
        assert await tries(platform, run_id, "hold") == [AttemptStatus.SUCCEEDED]
    async with opened(tmp_path) as platform:
        run = await platform.runs.wait(run_id, 10)
        assert run.status is RunStatus.COMPLETED
        assert run.final_state == {"gate": str(gate), "held": True, "after": True}
        assert await tries(platform, run_id, "hold") == [AttemptStatus.SUCCEEDED]


async def test_what_takes_longer_is_handed_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(tmp_path) as platform:
        run_id = await begin(platform, gate)
        await held(platform, run_id)
        assert not await platform.drain(0.05)
        # What runs in this process cannot be killed.
        gate.touch()
    async with opened(tmp_path) as platform:
        assert (await platform.runs.wait(run_id, 10)).status is RunStatus.COMPLETED
        assert (await tries(platform, run_id, "hold"))[-1] is AttemptStatus.SUCCEEDED


async def test_without_resuming_it_is_interrupted_for_good(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(tmp_path, resume_runs=False) as platform:
        run_id = await begin(platform, gate)
        await held(platform, run_id)
        assert not await platform.drain(0.05)
        gate.touch()
    async with opened(tmp_path) as platform:
        assert (await platform.store.run(run_id)).status is RunStatus.INTERRUPTED


async def test_who_waits_for_a_run_that_has_not_begun_is_answered(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(tmp_path, max_active_runs=1) as platform:
        first = await begin(platform, gate)
        await held(platform, first)
        second = await begin(platform, gate)
        waiting = asyncio.create_task(platform.runs.wait(second, 60))
        await asyncio.sleep(0.02)
        draining = asyncio.create_task(platform.drain(10))
        assert (await asyncio.wait_for(waiting, 5)).status is RunStatus.PENDING
        assert not draining.done()
        gate.touch()
        assert await draining
    async with opened(tmp_path) as platform:
        for run_id in (first, second):
            assert (await platform.runs.wait(run_id, 10)).status is RunStatus.COMPLETED


async def test_a_run_in_progress_can_be_cancelled_while_the_platform_drains(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(tmp_path) as platform:
        run_id = await begin(platform, gate)
        await held(platform, run_id)
        draining = asyncio.create_task(platform.drain(10))
        await asyncio.sleep(0)
        cancelling = asyncio.create_task(platform.runs.cancel(run_id))
        await asyncio.sleep(0.02)
        gate.touch()
        assert (await cancelling).status is RunStatus.CANCELLED
        assert await draining


async def test_one_with_nothing_to_do_is_drained_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as platform:
        async with asyncio.timeout(1):
            assert await platform.drain(60)
