"""What an engine does that goes away, or loses containers, costs attempts and never runs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cable import Cable, plugged
from served import containers_of, serve

from sandgraph.bootstrap import Platform, open_platform
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import AttemptStatus, RunStatus
from sandgraph.settings import load_settings

pytestmark = pytest.mark.docker

#: Seconds for which the engine is away.
AWAY_S = 3.0

SLEEPS = "import time\ndef nap(state):\n    print('asleep', flush=True)\n    time.sleep(1)\n    state.set('n', 1)\n"
GRAPH = Graph(
    "naps",
    (Node("start", NodeType.START), *(Node(name, function="nap") for name in "abc"), Node("end", NodeType.END)),
    (Edge("start", "a"), Edge("a", "b"), Edge("b", "c"), Edge("c", "end")),
)


@pytest.fixture
async def cable(tmp_path: Path) -> AsyncIterator[Cable]:
    async with plugged(tmp_path) as cable:
        yield cable


async def attempts(platform: Platform, run_id: str) -> dict[str, list[AttemptStatus]]:
    found = await platform.store.node_runs(run_id)
    return {each.node: [attempt.status for attempt in each.attempts] for each in found if each.attempts}


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the SDK forgets to close a socket that does not connect
async def test_a_run_outlives_an_engine_that_is_away(
    tmp_path: Path,
    deployment: Callable[[], str],
    cable: Cable,
) -> None:
    settings = load_settings(
        data_dir=tmp_path / "data", deployment=deployment(), docker_host=f"unix://{cable.path}", pool_min=1
    )
    async with open_platform(settings) as platform:
        await platform.catalog.register_function("nap", SLEEPS)
        version, _ = await platform.catalog.create_graph(GRAPH)
        record, _ = await platform.runs.submit(version.graph_id, {})
        async for page in platform.runs.follow(record.run_id, 0):
            if any(each.message == "asleep" for each in page):
                break
        await cable.pull()
        await asyncio.sleep(AWAY_S)
        await cable.plug()
        record = await platform.runs.wait(record.run_id, 60)
        assert record.status is RunStatus.COMPLETED, record.failure
        by_node = await attempts(platform, record.run_id)
        assert by_node["a"][0] is AttemptStatus.LOST
        assert all(tries[-1] is AttemptStatus.SUCCEEDED for tries in by_node.values())
    assert containers_of(settings.deployment) == []
    gc.collect()


def test_a_run_outlives_containers_that_somebody_kills(tmp_path: Path, deployment: Callable[[], str]) -> None:
    with serve(tmp_path, deployment(), pool_min=1) as platform:
        platform.register(SLEEPS, "nap")
        graph_id = platform.post("/graph/create", platform.graph_of("nap"))["graph_id"]
        run_id = platform.post("/graph/run_async", {"graph_id": graph_id})["run_id"]
        platform.wait_for_line(run_id, "asleep")
        subprocess.run(["docker", "kill", *platform.containers()], capture_output=True, check=False, timeout=30)
        assert platform.journal(run_id)[-1]["status"] == "completed"
        tried = platform.get(f"/graph/status/{run_id}")["node_runs"][1]["attempts"]
        assert [attempt["status"] for attempt in tried] == ["lost", "succeeded"]
        assert tried[0]["usage"]["output_bytes"] == len("asleep\n")
