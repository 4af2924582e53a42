from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import Place
from postgres_server import Server

from sandgraph.model.commands import RecordAttempt, RecordCommit, RecordNodeRun, RecordRun, StartAttempt
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import AttemptStatus, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json, SetKey, StateDiff, View
from sandgraph.store.store import Store

_TEMPLATE = "sandgraph_template"


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server, with a database of ours to make others of: so each test's is there at once."""
    url, folder = postgres_server.create(_TEMPLATE), tmp_path_factory.mktemp("template")

    async def make() -> None:
        await (await Store.open(folder, database_url=url)).close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(make())).result()
    return postgres_server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where a store can be, empty: a folder or a database of a server."""
    folder = tmp_path / "data"
    if request.param == "sqlite":
        yield Place(folder, None)
        return
    server: Server = request.getfixturevalue("postgres_template")
    name = f"test_{uuid.uuid4().hex}"
    yield Place(folder, server.create(name, _TEMPLATE))
    server.drop(name)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    opened = await place.open()
    yield opened
    await opened.close()


@pytest.fixture
def graph() -> Graph:
    nodes = (Node("start", NodeType.START), Node("work", function="work"), Node("end", NodeType.END))
    return Graph("g", nodes, (Edge("start", "work"), Edge("work", "end")))


@pytest.fixture
async def run_id(store: Store, graph: Graph) -> str:
    """Give a run that was claimed: its journal has two records."""
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {"n": 0}, functions={}, tools={}, image="image")
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
    return run.run_id


@pytest.fixture
def begin(store: Store, run_id: str) -> Callable[[str, int], Awaitable[NodeRunKey]]:
    """Give a function that starts a node run and its first attempt: two records."""

    async def begin(node: str, iteration: int) -> NodeRunKey:
        key = NodeRunKey(node, iteration)
        await store.apply(run_id, [RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, View.initial({}))])
        return key

    return begin


@pytest.fixture
def succeed(store: Store, run_id: str) -> Callable[[NodeRunKey, int, dict[str, Json]], Awaitable[int]]:
    """Give a function that ends a node run with a commit: three records."""

    async def succeed(key: NodeRunKey, number: int, values: dict[str, Json]) -> int:
        diff = StateDiff(tuple(SetKey(name, value) for name, value in sorted(values.items())))
        return await store.apply(
            run_id,
            [
                RecordAttempt(key, 1, AttemptStatus.SUCCEEDED),
                RecordCommit(number, (number - 1,), diff, key, 1),
                RecordNodeRun(key, NodeRunStatus.SUCCEEDED),
            ],
        )

    return succeed
