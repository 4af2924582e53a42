"""Clients that are slow, many, or send what no client sends: raw sockets at a real server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
import uvicorn
from api_world import World
from starlette.types import Receive, Scope, Send

from sandgraph.api import body as body_module
from sandgraph.api.app import create_app
from sandgraph.api.limits import shape
from sandgraph.api.limits.connections import protocol_for
from sandgraph.settings import load_settings

pytestmark = pytest.mark.anyio

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"

Serving = Callable[..., AbstractAsyncContextManager[int]]


@asynccontextmanager
async def serving(app: object, **options: object) -> AsyncIterator[int]:
    settings = load_settings(**options)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        lifespan="off",
        http=protocol_for(settings),
        h11_max_incomplete_event_size=settings.max_header_kb * 1024,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            server.force_exit = True
            await task


@pytest.fixture
def served(world: World) -> Serving:
    def serve(**options: object) -> AbstractAsyncContextManager[int]:
        return serving(create_app(world.services), **options)

    return serve


async def said(port: int, sent: bytes, *, more: bytes = b"", pause_s: float = 0.02) -> bytes:
    """Send something, then a byte at a time of more, and return all that is answered until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            writer.write(sent)

            async def trickle() -> None:
                for each in more:
                    await asyncio.sleep(pause_s)
                    writer.write(bytes([each]))

            task = asyncio.create_task(trickle())
            answer = bytearray()
            try:
                # Whoever is closed on while it sends is told so by a reset, too.
                with suppress(ConnectionResetError):
                    while part := await reader.read(65_536):
                        answer += part
                return bytes(answer)
            finally:
                task.cancel()
    finally:
        writer.close()


def code_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["code"])


async def test_a_head_that_trickles_in_is_not_waited_for(served: Serving) -> None:
    async with served(header_timeout_s=0.2) as port:
        answer = await said(port, b"GET /livez HTTP/1.1\r\n", more=b"X-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert code_of(answer) == "request_too_slow"


async def test_a_second_head_that_trickles_in_is_not_waited_for_either(served: Serving) -> None:
    async with served(header_timeout_s=0.2, idle_timeout_s=5) as port:
        answer = await said(
            port, GET, more=b"GET /livez HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        )
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answer


async def test_a_connection_that_says_nothing_is_closed(served: Serving) -> None:
    async with served(header_timeout_s=0.1) as port:
        assert (await said(port, b"")).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_idles_after_a_request_is_closed(served: Serving) -> None:
    async with served(idle_timeout_s=0.1, header_timeout_s=60) as port:
        assert (await said(port, GET)).startswith(b"HTTP/1.1 200 ")


async def test_requests_one_after_another_are_served_however_long_it_takes(served: Serving) -> None:
    async with served(header_timeout_s=0.15, idle_timeout_s=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(4):
            writer.write(GET)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(0.1)
        writer.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 400\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_trickles_in_is_not_waited_for(
    served: Serving, framing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "_GRACE_S", 0.1)
    async with served() as port:
        head = b"POST /nodes/register HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n"
        more = b" " * 400 if b"Length" in framing else b"1\r\n \r\n" * 100
        answer = await said(port, head, more=more, pause_s=0.01)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert code_of(answer) == "body_too_slow"


async def test_a_chunked_body_without_an_end_is_cut_off(served: Serving) -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nodes/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"

        async def pour() -> None:
            while True:
                writer.write(chunk)
                await writer.drain()

        task = asyncio.create_task(pour())
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET /" + b"a" * 200_000, 400, "bad_request"),
        (b"GET /" + b"a" * shape.MAX_PATH_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /livez?" + b"a" * (shape.MAX_QUERY_BYTES + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /livez?" + b"a&" * shape.MAX_PARAMETERS + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "too_many_parameters"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * shape.MAX_HEADERS + b"\r\n", 431, "too_many_headers"),
        (b"nonsense\r\n\r\n", 400, "bad_request"),
    ],
)
async def test_a_head_that_no_client_sends_is_refused(served: Serving, request_: bytes, status: int, code: str) -> None:
    async with served(idle_timeout_s=0.1) as port:
        answer = await said(port, request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert code_of(answer) == code


@pytest.mark.parametrize("option", ["max_connections", "address_max_connections"])
async def test_there_are_no_more_connections_than_may_be(served: Serving, option: str) -> None:
    async with served(**{option: 3}) as port:
        open_ = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.05)
        answer = await said(port, GET)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in answer
        assert code_of(answer) == "too_many_connections"
        open_.pop()[1].close()
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        for _, each in [*open_, (reader, writer)]:
            each.close()


async def pours(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with more than any buffer takes."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2_000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        scope["app_is_over"].set()


async def test_an_answer_that_is_not_taken_is_given_up() -> None:
    over = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await pours({**scope, "app_is_over": over}, receive, send)

    async with serving(app, send_timeout_s=0.2) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(GET)
        async with asyncio.timeout(10):
            await over.wait()
        writer.close()
