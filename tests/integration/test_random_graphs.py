"""Random graphs, over HTTP, against a second opinion of what they mean."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from effort import part_of
from random_programs import SOURCES, Program, expect, make, with_ids
from served import Served

from sandgraph.api.app import create_app
from sandgraph.api.schemas import parse_graph
from sandgraph.api.views import outcome_view, run_view
from sandgraph.bootstrap import open_platform, services_of
from sandgraph.model.state import StateDiff
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx2.AsyncClient]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), deployment="random-graphs")
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        transport = httpx2.ASGITransport(create_app(services_of(platform)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for name, code in SOURCES.items():
                assert (await client.post("/nodes/register", json={"name": name, "code": code})).is_success
            yield client


@pytest.mark.parametrize("seed", range(part_of(20)))
async def test_a_run_comes_to_what_its_graph_means(client: httpx2.AsyncClient, seed: int) -> None:
    program = make(seed)
    created = await client.post("/graph/create", json=program.graph)
    assert created.status_code == 201, created.text
    body = {"graph_id": created.json()["graph_id"], "initial_state": program.state}
    result = (await client.post("/graph/run", json=body)).json()
    run_id = result["run_id"]
    status = (await client.get(f"/graph/status/{run_id}")).json()
    _judge(program, result, status)
    newest = (await client.get(f"/graph/state/{run_id}")).json()
    assert newest["data"] == result["final_state"]["data"]


async def _created(client: httpx2.AsyncClient, program: Program) -> str:
    ids: dict[str, str] = {}
    for name, document in [*program.subgraphs.items(), ("", program.graph)]:
        created = await client.post("/graph/create", json=with_ids(document, ids))
        assert created.status_code == 201, created.text
        ids[name] = created.json()["graph_id"]
    return ids[""]


@pytest.mark.parametrize("seed", range(200, 200 + part_of(6, 2)))
async def test_pauses_change_nothing_of_what_a_run_comes_to(client: httpx2.AsyncClient, seed: int) -> None:
    program, order = make(seed, rich=True), Random(seed)
    body = {"graph_id": await _created(client, program), "initial_state": program.state}
    run_id = (await client.post("/graph/run_async", json=body)).json()["run_id"]
    status: Json = {"status": "pending"}
    while status["status"] in {"pending", "running", "waiting"}:
        # To pause a run that is over, or that is paused already, is refused or changes nothing.
        for word in ("pause", "unpause"):
            await asyncio.sleep(order.uniform(0, 0.02))
            assert (await client.post(f"/graph/{word}/{run_id}")).status_code in {200, 202, 409}
        status = (await client.get(f"/graph/status/{run_id}")).json()
    state = (await client.get(f"/graph/state/{run_id}")).json()
    expected = expect(program)
    assert status["status"] == ("failed" if expected.codes else "completed")
    assert expected.codes or (state["data"], status["last_commit"]) == (expected.data, expected.commits)


@pytest.mark.parametrize("seed", range(part_of(12)))
async def test_a_run_with_maps_and_subgraphs_comes_to_what_its_graph_means(
    client: httpx2.AsyncClient, seed: int
) -> None:
    program = make(seed, rich=True)
    body = {"graph_id": await _created(client, program), "initial_state": program.state}
    result = (await client.post("/graph/run", json=body)).json()
    status = (await client.get(f"/graph/status/{result['run_id']}")).json()
    _judge(program, result, status)
    newest = (await client.get(f"/graph/state/{result['run_id']}")).json()
    assert newest["data"] == result["final_state"]["data"]


@pytest.mark.parametrize(("seed", "rich"), [(seed, seed % 2 == 1) for seed in range(100, 100 + part_of(10, 4))])
async def test_it_comes_to_the_same_over_restarts(tmp_path: Path, seed: int, *, rich: bool) -> None:
    settings = load_settings(data_dir=tmp_path, deployment="random-graphs")
    program, order = make(seed, rich=rich), Random(seed)
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        for name, code in SOURCES.items():
            await platform.catalog.register_function(name, code)
        ids: dict[str, str] = {}
        for name, document in program.subgraphs.items():
            inner, _ = await platform.catalog.create_graph(parse_graph(with_ids(document, ids), settings))
            ids[name] = inner.graph_id
        version, _ = await platform.catalog.create_graph(parse_graph(with_ids(program.graph, ids), settings))
        run_id = (await platform.runs.submit(version.graph_id, program.state))[0].run_id
        await asyncio.sleep(order.uniform(0, 0.04))
    for _ in range(3):
        async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
            await platform.runs.wait(run_id, order.uniform(0, 0.04))
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        run = await platform.runs.wait(run_id, 60)
        node_runs = await platform.store.node_runs(run_id)
        data = (await platform.store.state(run_id, None))[1].data
        standing = await platform.store.standing(run_id, limit=10_000)
    _judge(program, outcome_view(run, data, node_runs), run_view(standing))


@pytest.mark.docker
def test_it_comes_to_the_same_in_containers_and_its_records_tell_all(served: Served) -> None:
    for name, code in SOURCES.items():
        served.register(code, name)
    for program in (make(100), make(101), make(100, rich=True), make(103, rich=True)):
        ids: dict[str, str] = {}
        for name, document in program.subgraphs.items():
            ids[name] = served.post("/graph/create", with_ids(document, ids))["graph_id"]
        result = served.run(with_ids(program.graph, ids), program.state)
        status = served.get(f"/graph/status/{result['run_id']}")
        _judge(program, result, status)
        states = {
            at: served.get(f"/graph/state/{result['run_id']}?at={at}")["data"]
            for at in range(status["last_commit"] + 1)
        }
        _judge_records(program.state, served.journal(result["run_id"]), states)


def _judge(program: Program, result: Json, status: Json) -> None:
    expected = expect(program)
    assert result["error"] is None if not expected.codes else result["error"]["code"] in expected.codes
    assert result["status"] == status["status"] == ("failed" if expected.codes else "completed")
    log = result["final_state"]["execution_log"]
    runs = status["node_runs"]
    assert Counter((run["scope"], run["node"], run["iteration"]) for run in runs).most_common(1)[0][1] == 1
    assert {entry["node"] for entry in log} == {run["node"] for run in runs}
    if not expected.codes:
        assert result["final_state"]["data"] == expected.data
        ran = [run for run in runs if run["status"] == "succeeded" and run["node"].split()[0] not in {"start", "end"}]
        assert Counter(run["node"] for run in ran if not run["scope"]) == expected.ran
        assert sum(bool(run["scope"]) for run in ran) == expected.inside
        assert status["last_commit"] == expected.commits


def _judge_records(initial: Json, records: list[Json], states: dict[int, Json]) -> None:
    """Each checkpoint is the one before it and its diff, where one was before it alone."""
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert states[0] == initial
    commits = [record["data"] for record in records if record["type"] == "state"]
    assert [commit["commit"] for commit in commits] == list(range(1, len(states)))
    for commit in commits:
        if len(commit["parents"]) == 1:
            folded = dict(states[commit["parents"][0]])
            StateDiff.from_json(commit["diff"]).apply_to(folded)
            assert states[commit["commit"]] == folded
