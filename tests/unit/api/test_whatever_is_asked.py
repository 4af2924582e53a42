"""Whatever is asked of the runs of a real platform, in whatever order, is answered, and never by an error of ours."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from api_world import World
from effort import IS_FAST
from fastapi import FastAPI
from starlette.testclient import TestClient

from sandgraph.api.app import create_app
from sandgraph.bootstrap import open_platform, services_of
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings

FUNCTIONS = {
    "count": "def count(state):\n    state['n'] = state.get('n', 0) + 1\n",
    "same": "def same(item):\n    return item\n",
    "broken": "def broken(state):\n    raise ValueError('broken')\n",
    "nap": "def nap(state):\n    import time\n    time.sleep(0.5)\n",
}


def chain(name: str, *nodes: Mapping[str, object], **fields: object) -> dict[str, object]:
    names = [node["name"] for node in nodes]
    edges = [{"source": source, "target": target} for source, target in pairwise(names)]
    return {"name": name, "start_node": names[0], "nodes": list(nodes), "edges": edges, **fields}


PLAIN = chain("plain", {"name": "a", "function": "count"}, {"name": "b", "function": "count"})
BROKEN = chain("broken", {"name": "a", "function": "count"}, {"name": "b", "function": "broken"})
WAITS = chain(
    "waits", {"name": "a", "function": "count"}, {"name": "w", "type": "wait", "event": "go"}, max_concurrent_runs=1
)
MAP = {"name": "m", "type": "map", "items": "xs", "into": "ys", "function": "same"}
NAPS = chain("naps", {"name": "a", "function": "nap"})


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[TestClient]:
    settings = load_settings(
        data_dir=tmp_path, deployment="asked", max_event_kb=1, max_run_events=5, max_active_runs=2, max_queued_runs=30
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
            app.state.services = services_of(platform)
            yield

    app = create_app(World.make(settings).services, lifespan)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


class Asker:
    """Asks, and notes which statuses came."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.seen: dict[str, set[int]] = {}

    def ask(self, method: str, what: str, run_id: str = "", body: object = None, query: str = "") -> dict[str, Any]:
        answer = self.client.request(method, f"/graph/{what}{run_id and '/'}{run_id}{query}", json=body)
        assert answer.status_code < 500, (method, what, body, query, answer.text)
        self.seen.setdefault(what, set()).add(answer.status_code)
        told: dict[str, Any] = answer.json()
        return told

    def begin(self) -> list[str]:
        """Return the ids of runs of all kinds."""
        for name, code in FUNCTIONS.items():
            assert self.client.post("/nodes/register", json={"name": name, "code": code}).status_code == 201
        plain, broken, waits, naps = (
            self.ask("POST", "create", body=each)["graph_id"] for each in (PLAIN, BROKEN, WAITS, NAPS)
        )
        document = chain("nested", MAP, {"name": "s", "type": "subgraph", "graph_id": broken})
        nested = self.ask("POST", "create", body=document)["graph_id"]
        wanted: list[tuple[str, dict[str, object]]] = [(each, {}) for each in (plain, broken, waits, waits, naps)]
        wanted += [(nested, {"xs": [1, "2"]}), (nested, {"xs": 5})]
        return [
            self.ask("POST", "run_async", body={"graph_id": graph_id, "initial_state": state})["run_id"]
            for graph_id, state in wanted
        ]

    def ask_everything(self, run_id: str) -> None:
        last = self.ask("GET", "status", run_id, query="?limit=1")["last_commit"]
        for at in range(-1, last + 2):
            self.ask("GET", "state", run_id, query=f"?at={at}")
            for more in ({}, {"state": {"n": 7}}, {"delete": ["n"], "functions": "latest"}):
                self.ask("POST", "fork", run_id, {"at": at, **more})
        for functions in ("pinned", "latest"):
            self.ask("POST", "resume", run_id, {"functions": functions})
        for payload in ("x", "x" * 2_000):
            self.ask("POST", "event", run_id, {"name": "other", "payload": payload})
        for node, scope in (("a", ""), ("b", "s#1"), ("w", ""), ("m", ""), ("m", "m#1"), ("nowhere", "nowhere")):
            self.ask("POST", "replay", run_id, {"node": node, "scope": scope})
        for query in ("?node=a", "?scope=", "?scope=s%231", "?limit=1", "?cursor=none"):
            self.ask("GET", "history", run_id, query=query)
        for what in ("pause", "pause", "unpause"):
            self.ask("POST", what, run_id)


def test_nothing_that_is_asked_of_runs_is_an_error_of_ours(platform: TestClient) -> None:
    asker = Asker(platform)
    begun = asker.begin()
    # In a hurry, of some of them before they end.
    for run_id in begun[:: 3 if IS_FAST else 1]:
        asker.ask_everything(run_id)
    deadline = time.monotonic() + 20
    while asker.ask("GET", "runs", query="?status=running")["runs"] and time.monotonic() < deadline:
        time.sleep(0.05)
    for run_id in begun:
        asker.ask_everything(run_id)
    assert asker.seen["fork"] >= {202, 404, 409, 422}
    assert asker.seen["replay"] >= {200, 404}
    assert asker.seen["resume"] >= {202, 409}
    assert asker.seen["event"] >= {202, 409, 422}
    assert asker.seen["pause"] >= {200, 409}
    assert asker.seen["history"] == {200, 422}
