"""Streams: opened with a header or a ticket, and ended once their reader may not have them any more."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from api_world import World
from fastapi import FastAPI
from gates import Clock, gated, serving
from starlette.responses import StreamingResponse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandgraph.api.auth import middleware
from sandgraph.api.auth.admission import Admission
from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.tickets import GOOD_FOR_S, Tickets
from sandgraph.api.problem import HttpError
from sandgraph.model.access import ALL_SCOPES, Principal, Scope
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))


@dataclass
class Live:
    """A served application with a run that goes on, and keys."""

    app: FastAPI
    gate: Gate
    store: Store
    world: World
    client: httpx2.AsyncClient
    port: int
    run_id: str
    clock: Clock

    async def key(self, *scopes: Scope, expires_in: timedelta | None = None) -> tuple[str, str]:
        made, text = await self.store.keys.create(
            "a", "test", scopes or ALL_SCOPES, created_by="test", expires_in=expires_in
        )
        return made.key_id, text

    async def ticket(self, key: str | None, path: str | None = None) -> httpx2.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await self.client.post("/tickets", json={"path": path or self.path}, headers=headers)

    @property
    def path(self) -> str:
        return f"/graph/ws/{self.run_id}"

    def open(self, query: str = "", key: str | None = None) -> connect:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return connect(f"ws://127.0.0.1:{self.port}{self.path}{query}", additional_headers=headers, close_timeout=1)

    async def refused(self, query: str = "", key: str | None = None) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as refusal:
            async with self.open(query, key):
                pass
        answer = refusal.value.response
        return answer.status_code, json.loads(answer.body or b"{}")["code"]


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    clock = Clock()
    async with gated(tmp_path / "data", clock, access="closed") as (app, gate, store, world):

        @app.get("/graph/logs/{run_id}/events")
        async def events(run_id: str) -> StreamingResponse:
            async def forever() -> AsyncIterator[str]:
                while True:
                    yield f"data: {run_id}\n\n"
                    await asyncio.sleep(0.01)

            return StreamingResponse(forever(), media_type="text/event-stream")

        @app.get("/graph/logs/{run_id}/file")
        async def file(run_id: str) -> StreamingResponse:
            async def forever() -> AsyncIterator[str]:
                while True:
                    yield f"{run_id}\n"
                    await asyncio.sleep(0.01)

            return StreamingResponse(forever(), media_type="text/plain")

        graph, _ = await world.catalog.create_graph(GRAPH)
        world.runs.hold = True
        run, _ = await world.runs.submit(graph.graph_id, {})
        async with serving(app) as port:
            client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
            async with client:
                yield Live(app, gate, store, world, client, port, run.run_id, clock)


async def ended(websocket: ClientConnection) -> tuple[int | None, str | None]:
    async with asyncio.timeout(5):
        with suppress(ConnectionClosed):
            while True:
                await websocket.recv()
    return websocket.close_code, websocket.close_reason


async def test_a_websocket_is_opened_with_the_header(live: Live) -> None:
    _, key = await live.key(Scope.READ)
    async with live.open(key=key) as websocket:
        await live.world.runs.say(live.run_id, "hello")
        assert json.loads(await websocket.recv())["message"] == "hello"


async def test_who_is_not_let_in_gets_no_websocket_and_is_told_why(live: Live) -> None:
    _, blind = await live.key(Scope.SUBMIT)
    _, late = await live.key(expires_in=timedelta(seconds=-1))
    assert await live.refused() == (401, "authentication_required")
    assert await live.refused(key="nonsense") == (401, "key_invalid")
    assert await live.refused(key=late) == (401, "key_expired")
    assert await live.refused(key=blind) == (403, "scope_missing")
    assert await live.refused("?ticket=sgt_x") == (401, "ticket_invalid")
    assert await live.refused(f"?token={late}") == (401, "credentials_in_url")
    assert live.world.runs.followers == 0


async def test_a_ticket_opens_one_stream_once(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, key = await live.key(Scope.READ)
    answer = await live.ticket(key)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told["path"] == live.path
    await live.world.runs.say(live.run_id, "one", "two")
    async with live.open(f"?after=1&ticket={told['ticket']}") as websocket:
        assert json.loads(await websocket.recv())["message"] == "two"
    assert await live.refused(f"?ticket={told['ticket']}") == (401, "ticket_invalid")
    # The client and the server's library log what they like; the platform's own lines have no queries.
    assert not [each for each in caplog.records if each.name.startswith("sandgraph") and "sgt_" in each.getMessage()]


async def test_a_ticket_is_for_one_path_and_not_for_long(live: Live) -> None:
    _, key = await live.key(Scope.READ)
    elsewhere = (await live.ticket(key, f"/graph/logs/{live.run_id}")).json()["ticket"]
    assert await live.refused(f"?ticket={elsewhere}") == (401, "ticket_invalid")
    # It is used up all the same.
    answer = await live.client.get(f"/graph/logs/{live.run_id}?ticket={elsewhere}")
    assert (answer.status_code, answer.json()["code"]) == (401, "ticket_invalid")
    old = (await live.ticket(key)).json()["ticket"]
    live.clock.now += GOOD_FOR_S
    assert await live.refused(f"?ticket={old}") == (401, "ticket_invalid")


async def test_a_ticket_is_no_better_than_the_key_it_was_made_with(live: Live) -> None:
    key_id, key = await live.key(Scope.READ)
    ticket = (await live.ticket(key)).json()["ticket"]
    await live.store.keys.revoke(key_id)
    live.gate.forget(key_id)
    assert await live.refused(f"?ticket={ticket}") == (401, "key_revoked")


async def test_there_are_tickets_for_streams_of_runs_that_one_may_read_alone(live: Live) -> None:
    _, key = await live.key(Scope.READ)
    _, blind = await live.key(Scope.SUBMIT, Scope.ADMIN, Scope.OPERATE)
    assert (await live.ticket(None)).status_code == 401
    assert (await live.ticket(blind)).json()["code"] == "scope_missing"
    for path in ("/graph/runs", "/graph/ws", "/", f"{live.path}?after=1", f"http://evil.example{live.path}"):
        assert (await live.ticket(key, path)).status_code in {404, 422}, path
    assert (await live.ticket(key, "/graph/ws/run_none")).json()["code"] == "run_not_found"


async def test_a_stream_ends_soon_after_its_key_was_revoked(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "CHECK_S", 0.02)
    (key_id, key), (_, other) = await live.key(Scope.READ), await live.key(Scope.READ)
    ticket = (await live.ticket(key)).json()["ticket"]
    async with live.open(key=key) as one, live.open(f"?ticket={ticket}") as two, live.open(key=other) as three:
        await live.world.runs.say(live.run_id, "hello")
        for each in (one, two, three):
            await each.recv()
        await live.store.keys.revoke(key_id)
        live.clock.now += 2.5
        assert await ended(one) == (4401, "key_revoked")
        assert await ended(two) == (4401, "key_revoked")
        await live.world.runs.say(live.run_id, "still there")
        assert json.loads(await three.recv())["message"] == "still there"
        assert live.world.runs.followers == 1


async def test_a_stream_over_http_ends_too(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "CHECK_S", 0.02)
    key_id, key = await live.key(Scope.READ)
    seen = 0
    async with asyncio.timeout(5):
        async with live.client.stream(
            "GET", f"/graph/logs/{live.run_id}/events", headers={"Authorization": f"Bearer {key}"}
        ) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_text():
                seen += 1
                if seen == 1:
                    await live.store.keys.revoke(key_id)
                    live.clock.now += 2.5
    assert seen >= 1


async def test_what_is_no_stream_of_events_is_broken_off_and_does_not_look_whole(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "CHECK_S", 0.02)
    key_id, key = await live.key(Scope.READ)

    async def download() -> None:
        path, headers = f"/graph/logs/{live.run_id}/file", {"Authorization": f"Bearer {key}"}
        async with asyncio.timeout(5), live.client.stream("GET", path, headers=headers) as answer:
            async for _ in answer.aiter_text():
                await live.store.keys.revoke(key_id)
                live.clock.now += 2.5

    with pytest.raises(httpx2.RemoteProtocolError):
        await download()


async def test_the_first_key_ends_streams_that_everybody_could_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "CHECK_S", 0.02)
    async with gated(tmp_path / "open", Clock()) as (app, gate, _, world):
        graph, _ = await world.catalog.create_graph(GRAPH)
        world.runs.hold = True
        run, _ = await world.runs.submit(graph.graph_id, {})
        async with serving(app) as port, connect(f"ws://127.0.0.1:{port}/graph/ws/{run.run_id}") as websocket:
            await world.runs.say(run.run_id, "hello")
            assert json.loads(await websocket.recv())["message"] == "hello"
            gate.shut()
            assert await ended(websocket) == (4401, "authentication_required")


async def test_a_stream_stays_while_nobody_can_tell(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "CHECK_S", 0.02)
    _, key = await live.key(Scope.READ)
    async with live.open(key=key) as websocket:
        await live.store.close()
        live.clock.now += 10
        await asyncio.sleep(0.08)
        await live.world.runs.say(live.run_id, "hello")
        assert json.loads(await websocket.recv())["message"] == "hello"


def test_tickets_are_bounded_each_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    tickets = Tickets(clock)

    def admission(subject: str) -> Admission:
        return Admission(Principal("a", subject, ALL_SCOPES))

    given = [tickets.issue(admission("one"), "/x") for _ in range(100)]
    assert len(set(given)) == 100
    with pytest.raises(HttpError) as refused:
        tickets.issue(admission("one"), "/x")
    assert (refused.value.status, refused.value.problem.code) == (429, "too_many_tickets")
    tickets.issue(admission("two"), "/x")
    tickets.redeem(given[0], "/x")
    tickets.issue(admission("one"), "/x")
    clock.now += GOOD_FOR_S
    monkeypatch.setattr("sandgraph.api.auth.tickets._MOST", 3)
    for number in range(3):
        tickets.issue(admission(f"other{number}"), "/x")
    with pytest.raises(HttpError):
        tickets.issue(admission("last"), "/x")


def test_a_ticket_has_as_much_chance_in_it_as_a_key() -> None:
    ticket = Tickets().issue(Admission(Principal("a", "one", ALL_SCOPES)), "/x")
    assert len(ticket.removeprefix("sgt_")) == 43  # 32 bytes
