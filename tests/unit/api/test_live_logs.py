"""A run's log as server-sent events, and a WebSocket with the same filters and numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from api_world import World, record
from websockets.asyncio.client import connect

from sandgraph.api import live
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.store.logs import gap
from sandgraph.store.records import JournalRecord

pytestmark = pytest.mark.anyio

GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))

Event = dict[str, str]


@pytest.fixture
async def run_id(world: World) -> str:
    graph, _ = await world.catalog.create_graph(GRAPH)
    world.runs.hold = True
    run, _ = await world.runs.submit(graph.graph_id, {})
    return run.run_id


@pytest.fixture
async def http(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client


@asynccontextmanager
async def stream(http: httpx2.AsyncClient, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with http.stream("GET", path, headers={"Accept": "text/event-stream", **headers}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield _events(answer.aiter_lines())


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    event: Event = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name or "comment"] = value
        elif event:
            yield event
            event = {}


async def rest(http: httpx2.AsyncClient, path: str, **headers: str) -> list[Event]:
    async with asyncio.timeout(20), stream(http, path, **headers) as events:
        return [event async for event in events]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)


async def test_what_is_stored_then_what_comes_then_the_end(world: World, run_id: str, http: httpx2.AsyncClient) -> None:
    await world.runs.say(run_id, "one")
    async with stream(http, f"/graph/logs/{run_id}") as events:
        assert await anext(events) == {"retry": "2000"}
        first = await anext(events)
        await world.runs.say(run_id, "two\nlines\u2028")
        second = await anext(events)
        await world.runs.end(run_id)
        end = await anext(events)
        assert [event async for event in events] == []
    assert [(each["id"], each["event"]) for each in (first, second, end)] == [("1", "log"), ("2", "log"), ("3", "end")]
    assert json.loads(second["data"])["message"] == "two\nlines\u2028"
    assert json.loads(end["data"])["final"]
    await until(lambda: world.runs.followers == 0)


async def test_who_comes_back_goes_on_where_it_was_and_stops_at_the_end(
    world: World, run_id: str, http: httpx2.AsyncClient
) -> None:
    await world.runs.say(run_id, *(f"line {i}" for i in range(5)))
    await world.runs.end(run_id)
    path = f"/graph/logs/{run_id}?follow=true"
    whole = await rest(http, path)
    for last in range(1, 6):
        headers = {"Last-Event-ID": str(last)}
        # It wins over what the address said when it came first.
        assert (await rest(http, f"{path}&after=4&tail=1", **headers))[1:] == whole[1 + last :]
    over = await http.get(path, headers={"Last-Event-ID": "6"})
    assert (over.status_code, over.content) == (204, b"")
    assert [each["event"] for each in (await rest(http, f"{path}&after=6"))[1:]] == ["end"]


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("after=3", [4, 5, 6]),
        ("tail=2", [4, 5, 6]),
        ("tail=1&stream=stderr", [3, 6]),
        ("stream=stderr", [3, 6]),
        ("grep=LINE+1&ignore_case=true", [2, 6]),
        ("level=error", [3, 6]),
        ("node=rest", [6]),
        ("since=2026-11-23T12:00:00Z", [1, 2, 3, 4, 5, 6]),
    ],
)
async def test_filters_are_those_of_a_page_on_both_ways(
    world: World, run_id: str, http: httpx2.AsyncClient, port: int, query: str, seqs: list[int]
) -> None:
    await world.runs.say(run_id, *(f"line {i}" for i in range(5)))
    world.runs.journals[run_id][2] = replace(world.runs.journals[run_id][2], type="stderr")
    await world.runs.end(run_id)
    events = (await rest(http, f"/graph/logs/{run_id}?{query}"))[1:]
    assert [int(each["id"]) for each in events] == seqs
    async with connect(f"ws://127.0.0.1:{port}/graph/ws/{run_id}?events=false&{query}") as websocket:
        texts = [json.loads(text) async for text in websocket]
    assert [each["seq"] for each in texts] == seqs
    assert texts == [json.loads(each["data"]) for each in events]
    assert texts[-1]["kind"] == "end"


async def test_what_is_missing_is_an_event_of_its_own(
    world: World, run_id: str, http: httpx2.AsyncClient, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.runs.say(run_id, "one")
    cut = replace(record(8, "Too much.", type_="attempt"), status="output_limit")
    end = replace(record(9, "Over.", type_="run"), status="completed")

    async def follow(_run_id: str, _after: int) -> AsyncGenerator[list[JournalRecord]]:
        yield [gap(1, 6, 5)]
        yield [record(7, "kept", kind="log", type_="stdout"), cut, end]

    monkeypatch.setattr(world.runs, "follow", follow)
    events = (await rest(http, f"/graph/logs/{run_id}?grep=kept&node=work"))[1:]
    assert [(each["id"], each["event"]) for each in events] == [
        ("0", "gap"),
        ("7", "log"),
        ("8", "truncated"),
        ("9", "end"),
    ]
    missing = json.loads(events[0]["data"])
    assert (missing["type"], missing["from"], missing["to"], missing["lines"]) == ("gap", 1, 6, 5)
    assert missing["reason"] == "retention"
    async with connect(f"ws://127.0.0.1:{port}/graph/ws/{run_id}") as websocket:
        seen: list[dict[str, Any]] = [json.loads(text) async for text in websocket]
    assert [(each["seq"], each["kind"]) for each in seen] == [(0, "gap"), (7, "log"), (8, "event"), (9, "event")]
    text = await http.get(f"/graph/logs/{run_id}?follow=true&format=text")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text.splitlines()[0] == "--- 5 lines removed by retention ---"
    assert text.text.splitlines()[2] == "--- the output of work ends here, at its limit ---"


async def test_a_silent_run_is_told_to_be_alive(
    world: World, run_id: str, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    async with stream(http, f"/graph/logs/{run_id}") as events:
        seen = [await anext(events) for _ in range(4)]
    assert {"comment": "alive"} in seen
    await until(lambda: world.runs.followers == 0)


async def test_who_goes_away_is_forgotten_at_once(world: World, run_id: str, http: httpx2.AsyncClient) -> None:
    async with stream(http, f"/graph/logs/{run_id}") as events:
        await anext(events)
        await until(lambda: world.runs.followers == 1)
    await until(lambda: world.runs.followers == 0)


async def test_a_client_that_takes_nothing_is_given_up(
    world: World, run_id: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SEND_TIMEOUT_S", 0.2)
    produced, ended = 0, False

    async def follow(_run_id: str, _after: int) -> AsyncGenerator[list[JournalRecord]]:
        nonlocal produced, ended
        try:
            while True:
                produced += 1
                yield [record(produced, "x" * 10_000, kind="log", type_="stdout")]
        finally:
            ended = True

    monkeypatch.setattr(world.runs, "follow", follow)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
    writer.write(f"GET /graph/logs/{run_id}?follow=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await until(lambda: ended)
    assert produced < 2_000
    writer.transport.abort()


async def test_what_is_wrong_is_told_before_it_begins(run_id: str, http: httpx2.AsyncClient, port: int) -> None:
    missing = await http.get("/graph/logs/nope?follow=true")
    assert missing.json()["code"] == "run_not_found"
    for query, path in (("before=3", "before"), ("download=true", "download"), ("grep=", "grep")):
        wrong = await http.get(f"/graph/logs/{run_id}?follow=true&{query}")
        assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, path)
    wrong = await http.get(f"/graph/logs/{run_id}?follow=true", headers={"Last-Event-ID": "x"})
    assert wrong.json()["errors"][0]["path"].lower() == "last-event-id"
    async with connect(f"ws://127.0.0.1:{port}/graph/ws/{run_id}?level=loud") as websocket:
        assert json.loads(await websocket.recv())["error"]["errors"][0]["path"] == "level"


async def test_a_failure_on_the_way_is_an_event_without_its_text(
    world: World,
    run_id: str,
    http: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def follow(_run_id: str, _after: int) -> AsyncGenerator[list[JournalRecord]]:
        yield [record(1, "one", kind="log", type_="stdout")]
        raise RuntimeError("secret")

    await world.runs.say(run_id, "one")
    monkeypatch.setattr(world.runs, "follow", follow)
    events = await rest(http, f"/graph/logs/{run_id}?follow=true")
    assert [each.get("event") for each in events] == [None, "log", "error"]
    assert json.loads(events[-1]["data"])["code"] == "internal_error"
    assert "secret" not in str(events)
    assert "secret" in caplog.text
