"""A function that is registered anew: runs in flight go on with what they began with, new ones have the new one."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from served import containers_of, serve

from sandgraph.api.app import create_app
from sandgraph.bootstrap import Platform, open_platform, services_of
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

TOOL = "def label():\n    return 'tool {version}'\n"
SECOND = "def second(state):\n    state.set('said', ['function {version}', tools.invoke('label')])\n"
COUNT = """import time
def count(state):
    time.sleep(0.05)
    print('{version}')
    state.set('n', state.get('n', 0) + 1)
"""

WAITING: Json = {
    "name": "waiting",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "approval", "type": "wait", "event": "go", "timeout_s": 600},
        {"name": "second", "function": "second"},
        {"name": "end", "type": "end"},
    ],
    "edges": [
        {"source": "start", "target": "approval"},
        {"source": "approval", "target": "second"},
        {"source": "second", "target": "end"},
    ],
}

LOOP: Json = {
    "name": "loop",
    "isolation": "run",
    "nodes": [
        {"name": "start", "type": "start"},
        {
            "name": "count",
            "type": "loop",
            "function": "count",
            "condition": "state.get('n', 0) < 20",
            "max_iterations": 50,
        },
        {"name": "end", "type": "end"},
    ],
    "edges": [{"source": "start", "target": "count"}, {"source": "count", "target": "end"}],
}


class Client:
    """Speaks to a platform in this process."""

    def __init__(self, http: httpx2.AsyncClient, platform: Platform) -> None:
        self.http = http
        self.platform = platform

    async def post(self, path: str, body: object) -> Json:
        answer = await self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    async def register(self, version: str) -> None:
        await self.post("/tools/register", {"name": "label", "code": TOOL.format(version=version), "description": "x"})
        for name, code in (("second", SECOND), ("count", COUNT)):
            await self.post("/nodes/register", {"name": name, "code": code.format(version=version)})

    async def begin(self, graph: Json) -> str:
        graph_id = (await self.post("/graph/create", graph))["graph_id"]
        return str((await self.post("/graph/run_async", {"graph_id": graph_id}))["run_id"])

    async def pins(self, run_id: str) -> dict[str, int]:
        functions, tools = await self.platform.store.run_code(run_id)
        return {name: code.version for name, code in {**functions, **tools}.items() if name in {"second", "label"}}

    async def said(self, run_id: str) -> object:
        run = await self.platform.runs.wait(run_id, 30)
        assert run.final_state is not None
        return run.final_state.get("said")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    settings = load_settings(data_dir=tmp_path, deployment="hot-reload")
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        transport = httpx2.ASGITransport(create_app(services_of(platform)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield Client(http, platform)


async def test_a_run_that_waits_keeps_its_functions_and_tools_and_a_new_one_has_the_new_ones(client: Client) -> None:
    await client.register("one")
    old = await client.begin(WAITING)
    await client.register("two")
    new = await client.begin(WAITING)
    assert await client.pins(old) == {"second": 1, "label": 1}
    assert await client.pins(new) == {"second": 2, "label": 2}
    for run_id in (new, old):
        await client.post(f"/graph/event/{run_id}", {"name": "go"})
    assert await client.said(old) == ["function one", "tool one"]
    assert await client.said(new) == ["function two", "tool two"]


async def test_a_run_that_is_forked_or_resumed_takes_the_new_ones_only_when_it_is_told_to(client: Client) -> None:
    await client.register("one")
    old = await client.begin(WAITING)
    await client.register("two")
    forks = [
        (await client.post(f"/graph/fork/{old}", {"at": 0, "functions": functions}))["run_id"]
        for functions in ("pinned", "latest")
    ]
    for run_id in forks:
        await client.post(f"/graph/event/{run_id}", {"name": "go"})
    assert [await client.said(run_id) for run_id in forks] == [
        ["function one", "tool one"],
        ["function two", "tool two"],
    ]


@pytest.mark.docker
def test_in_containers_and_over_a_restart_too(tmp_path: Path, deployment: Callable[[], str]) -> None:
    name = deployment()
    with serve(tmp_path, name) as platform:

        def register(version: str) -> None:
            platform.post(
                "/tools/register", {"name": "label", "code": TOOL.format(version=version), "description": "x"}
            )
            platform.register(SECOND.format(version=version), "second")
            platform.register(COUNT.format(version=version), "count")

        def begin(graph: Json) -> str:
            graph_id = platform.post("/graph/create", graph)["graph_id"]
            return str(platform.post("/graph/run_async", {"graph_id": graph_id})["run_id"])

        register("one")
        old_loop, old_wait = begin(LOOP), begin(WAITING)
        platform.wait_for_line(old_loop, "one")
        register("two")
        assert platform.get(f"/graph/status/{old_loop}")["status"] == "running", "it ended before the new version came"
        new_loop, new_wait = begin(LOOP), begin(WAITING)
        for run_id, version in ((old_loop, "one"), (new_loop, "two")):
            printed = [record["message"] for record in platform.journal(run_id) if record["kind"] == "log"]
            assert printed == [version] * 20
        platform.process.send_signal(signal.SIGTERM)
        assert platform.process.wait(30) == 0
    with serve(tmp_path, name) as platform:
        for run_id in (old_wait, new_wait):
            platform.post(f"/graph/event/{run_id}", {"name": "go"})
        for run_id, version in ((old_wait, "one"), (new_wait, "two")):
            deadline = time.monotonic() + 30
            while platform.get(f"/graph/status/{run_id}")["status"] != "completed":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            said = platform.get(f"/graph/state/{run_id}")["data"]["said"]
            assert said == [f"function {version}", f"tool {version}"]
    assert containers_of(name) == []
