"""A run's records over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

import pytest
from api_world import World, record
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from sandgraph.api.routes import stream
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import RunStatus
from sandgraph.store.records import JournalRecord

pytestmark = pytest.mark.anyio

GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))


@pytest.fixture
async def run_id(world: World) -> str:
    graph, _ = await world.catalog.create_graph(GRAPH)
    world.runs.hold = True
    run, _ = await world.runs.submit(graph.graph_id, {})
    return run.run_id


Open = Callable[..., "connect"]


@pytest.fixture
def open_(port: int) -> Open:
    def opened(run_id: str, query: str = "", **options: Any) -> connect:  # noqa: ANN401 - the client's
        return connect(f"ws://127.0.0.1:{port}/graph/ws/{run_id}{query}", close_timeout=1, **options)

    return opened


async def rest(websocket: ClientConnection) -> list[dict[str, Any]]:
    seen = []
    async with asyncio.timeout(20):
        with suppress(ConnectionClosedError):
            async for text in websocket:
                seen.append(json.loads(text))  # noqa: PERF401 - kept where the connection ends with an error
    return seen


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)


async def test_what_is_stored_then_what_comes_then_the_end(world: World, run_id: str, open_: Open) -> None:
    await world.runs.say(run_id, "one", "two")
    async with open_(run_id) as websocket:
        first = [json.loads(await websocket.recv()) for _ in range(2)]
        await world.runs.say(run_id, "three")
        third = json.loads(await websocket.recv())
        await world.runs.end(run_id)
        last = await rest(websocket)
    seen = [*first, third, *last]
    assert [each["seq"] for each in seen] == [1, 2, 3, 4]
    assert [each["message"] for each in seen] == ["one", "two", "three", "The run is completed."]
    assert third["stream"] == "stdout"
    assert third["node"] == "work"
    assert third["ts"] == "2026-11-23T12:00:00.123456Z"
    assert not any(each["final"] for each in seen[:-1])
    assert (last[0]["type"], last[0]["status"], last[0]["final"], last[0]["node"]) == ("end", "completed", True, None)
    assert websocket.close_code == 1000
    await until(lambda: world.runs.followers == 0)


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED])
async def test_the_end_says_how_the_run_ended(world: World, run_id: str, open_: Open, status: RunStatus) -> None:
    await world.runs.end(run_id, status)
    async with open_(run_id) as websocket:
        assert (await rest(websocket))[-1]["status"] == status.value


async def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(
    world: World, run_id: str, open_: Open
) -> None:
    await world.runs.say(run_id, *(f"line {i}" for i in range(10)))
    await world.runs.end(run_id)
    async with open_(run_id) as websocket:
        whole = await rest(websocket)
    assert len(whole) == 11
    for after in range(11):
        async with open_(run_id, f"?after={after}") as websocket:
            assert await rest(websocket) == whole[after:]


async def test_the_end_comes_always_even_to_who_has_seen_it(world: World, run_id: str, open_: Open) -> None:
    await world.runs.say(run_id, "one")
    await world.runs.end(run_id)
    for after in (2, 3, 1_000, 2**63 - 1):
        async with open_(run_id, f"?after={after}") as websocket:
            (last,) = await rest(websocket)
        assert (last["seq"], last["final"], last["status"]) == (2, True, "completed")


async def test_a_number_that_the_run_has_not_reached_hides_nothing(world: World, run_id: str, open_: Open) -> None:
    await world.runs.say(run_id, "one")
    async with open_(run_id, "?after=1000") as websocket:
        await until(lambda: world.runs.followers == 1)
        await world.runs.say(run_id, "two")
        await world.runs.end(run_id)
        assert [each["seq"] for each in await rest(websocket)] == [2, 3]


async def test_ping_is_answered_while_nothing_happens_and_in_between(world: World, run_id: str, open_: Open) -> None:
    async with open_(run_id) as websocket:
        for _ in range(3):
            await websocket.send("ping")
            assert await websocket.recv() == "pong"
        await websocket.send("anything else")
        await websocket.send(b"\x00")
        await websocket.send("ping")
        assert await websocket.recv() == "pong"
        await world.runs.say(run_id, "one")
        assert json.loads(await websocket.recv())["message"] == "one"


async def test_an_unknown_run_is_told_and_closed(open_: Open) -> None:
    for run in ("nope", "%00", "x" * 200):
        async with open_(run) as websocket:
            (told,) = await rest(websocket)
        assert told["error"]["code"] == "run_not_found"
        assert told["error"]["status"] == 404
        assert (websocket.close_code, websocket.close_reason) == (4404, "run_not_found")


async def test_an_after_that_is_no_number_is_told_and_closed(run_id: str, open_: Open) -> None:
    for after in ("", "-1", "x", "1.0", "%2B1", "%D9%A5", str(2**63), "9" * 5_000, "0" * 5_000):
        async with open_(run_id, f"?after={after}") as websocket:
            (told,) = await rest(websocket)
        assert told["error"]["errors"][0]["path"] == "after"
        assert (websocket.close_code, websocket.close_reason) == (4422, "out_of_range")


async def test_a_failure_behind_the_stream_is_told_without_its_text(
    world: World, run_id: str, open_: Open, caplog: pytest.LogCaptureFixture
) -> None:
    world.runs.error = RuntimeError("secret")
    async with open_(run_id) as websocket:
        (told,) = await rest(websocket)
    assert told["error"]["code"] == "internal_error"
    assert "secret" not in json.dumps(told)
    assert websocket.close_code == 1011
    assert "secret" in caplog.text


async def test_who_goes_away_is_forgotten_at_once(world: World, run_id: str, open_: Open) -> None:
    sockets = [await open_(run_id) for _ in range(5)]
    await until(lambda: world.runs.followers == 5)
    for websocket in sockets[:3]:
        await websocket.close()
    for websocket in sockets[3:]:
        websocket.transport.abort()
    await until(lambda: world.runs.followers == 0)


async def test_a_message_that_is_too_long_ends_the_talk(world: World, run_id: str, open_: Open) -> None:
    async with open_(run_id) as websocket:
        await websocket.send("x" * 1_025)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
    assert websocket.close_code == 1009
    await until(lambda: world.runs.followers == 0)


async def test_a_flood_of_messages_ends_the_talk(world: World, run_id: str, open_: Open) -> None:
    async with open_(run_id) as websocket:

        async def flood() -> None:
            for _ in range(1_000):
                await websocket.send("ping")
                await websocket.recv()

        with pytest.raises(ConnectionClosed):
            await flood()
    assert websocket.close_code == 1008
    await until(lambda: world.runs.followers == 0)


async def test_a_client_that_takes_nothing_is_given_up_and_never_read_ahead_for(
    world: World, run_id: str, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SEND_TIMEOUT_S", 0.3)
    produced, ended = 0, False

    async def follow(_run_id: str, _after: int) -> AsyncGenerator[list[JournalRecord]]:
        nonlocal produced, ended
        try:
            while True:
                produced += 1
                yield [record(produced, "x" * 10_000)]
        finally:
            ended = True

    monkeypatch.setattr(world.runs, "follow", follow)
    websocket = await open_(run_id, max_queue=1, compression=None)
    websocket.transport.pause_reading()
    await until(lambda: ended)
    # Some megabytes fit into the kernel's buffers of a loopback connection; endless records do not.
    assert produced < 2_000
    websocket.transport.abort()


async def test_a_stranger_page_gets_no_records(run_id: str, open_: Open) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await open_(run_id, origin="http://evil.example")
    assert refused.value.response.status_code == 403


async def test_the_own_page_gets_records(world: World, run_id: str, port: int, open_: Open) -> None:
    await world.runs.end(run_id)
    async with open_(run_id, origin=f"http://127.0.0.1:{port}") as websocket:
        assert (await rest(websocket))[-1]["final"]


async def test_who_waits_for_a_run_and_goes_away_is_not_waited_for(world: World, run_id: str, port: int) -> None:
    assert run_id
    body = json.dumps({"graph_id": "gr_1"})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST /graph/run HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    await until(lambda: world.runs.waiting == 1)
    writer.close()
    await until(lambda: world.runs.waiting == 0)
    assert world.runs.records["run_2"].status is RunStatus.PENDING
    assert await reader.read() == b""
