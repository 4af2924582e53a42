"""Posts go to the address that was checked, end in time, and follow nobody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sandgraph.execution.posting import MOST_READ, Poster
from sandgraph.model.destinations import Rules, parse_networks

pytestmark = pytest.mark.anyio

HERE = Rules(parse_networks("127.0.0.0/8, ::1/128"), ports=None, plain=True)


class Receiver:
    """A server on loopback that answers as told, and remembers what it was sent.

    Args:
        answer: Its bytes; None to answer nothing.
    """

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        try:
            if self.answer is None:
                await reader.read()
            else:
                writer.write(self.answer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver(answer: bytes | None = b"HTTP/1.1 204 No Content\r\n\r\n") -> AsyncIterator[Receiver]:
    made = Receiver(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def names(*answers: Sequence[str]) -> tuple[list[str], Poster]:
    """Return who was asked for, and a poster whose resolver answers so, one after another."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return asked, Poster(HERE, resolve=resolve, total_s=2)


async def test_a_post_arrives_as_it_is_signed_under_the_hosts_own_name() -> None:
    asked, poster = names(["127.0.0.1"])
    async with receiver() as server:
        url = f"http://hooks.invalid:{server.port}/a%20b?c=d"
        answer = await poster.post(url, {"webhook-id": "msg_1", "Content-Type": "application/json"}, b'{"a": 1}')
    assert (answer.status, answer.error) == (204, None)
    (head,) = server.heads
    assert head.startswith("POST /a%20b?c=d HTTP/1.1\r\n")
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines()[1:] if line)}
    assert sent["host"] == f"hooks.invalid:{server.port}"
    assert sent["webhook-id"] == "msg_1"
    assert "cookie" not in sent
    assert server.bodies == [b'{"a": 1}']
    assert asked == ["hooks.invalid"]


async def test_a_name_that_is_bound_anew_between_check_and_connection_leads_nowhere_else() -> None:
    # The second answer is what an attacker's name server says once it was asked: it is never asked again.
    asked, poster = names(["127.0.0.1"], ["169.254.169.254"])
    async with receiver() as server:
        answer = await poster.post(f"http://rebound.invalid:{server.port}/", {}, b"{}")
    assert (answer.status, asked) == (204, ["rebound.invalid"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (["10.0.0.1"], "address_not_allowed"),
        (["127.0.0.1", "169.254.169.254"], "address_not_allowed"),
        (["::ffff:10.0.0.1"], "address_not_allowed"),
        (["fe80::1%eth0"], "address_not_allowed"),
        ([], "name_not_resolved"),
    ],
)
async def test_a_name_with_any_address_that_is_not_allowed_is_not_connected_to(answer: list[str], error: str) -> None:
    _, poster = names(answer)
    async with receiver() as server:
        assert (await poster.post(f"http://hooks.invalid:{server.port}/", {}, b"{}")).error == error
    assert server.heads == []


async def test_a_name_that_nobody_knows_is_told_so() -> None:
    poster = Poster(HERE, total_s=5)
    assert (await poster.post("http://hooks.invalid/", {}, b"{}")).error == "name_not_resolved"
    poster.close()


async def test_rules_that_became_stricter_count_at_once() -> None:
    async with receiver() as server:
        poster = Poster(Rules(), total_s=2)
        answer = await poster.post(f"http://127.0.0.1:{server.port}/", {}, b"{}")
    assert (answer.error, server.heads) == ("url_not_allowed", [])


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    _, poster = names(["127.0.0.2", "127.0.0.1"])
    async with receiver() as server:
        assert (await poster.post(f"http://hooks.invalid:{server.port}/", {}, b"{}")).status == 204


async def test_a_redirect_is_not_followed() -> None:
    async with receiver() as inner:
        location = f"http://127.0.0.1:{inner.port}/"
        head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        async with receiver(head.encode()) as server:
            answer = await names(["127.0.0.1"])[1].post(f"http://hooks.invalid:{server.port}/", {}, b"{}")
    assert (answer.status, answer.error, inner.heads) == (307, "redirected", [])


async def test_cookies_are_not_kept() -> None:
    _, poster = names(["127.0.0.1"])
    async with receiver(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n") as server:
        for _ in range(2):
            await poster.post(f"http://hooks.invalid:{server.port}/", {}, b"{}")
    assert not any("cookie" in head.lower() for head in server.heads)


async def test_who_answers_nothing_is_given_up_in_time() -> None:
    poster = Poster(HERE, total_s=0.1)
    async with receiver(None) as server:
        began = time.monotonic()
        answer = await poster.post(f"http://127.0.0.1:{server.port}/", {}, b"{}")
    assert (answer.status, answer.error) == (None, "timeout")
    assert time.monotonic() - began < 1


async def test_of_an_answer_without_end_little_is_read() -> None:
    huge = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * (1024 * MOST_READ)
    async with receiver(huge) as server:
        answer = await names(["127.0.0.1"])[1].post(f"http://hooks.invalid:{server.port}/", {}, b"{}")
    assert (answer.status, answer.error) == (200, None)
    assert answer.latency_ms < 1_500


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (b"no http at all\r\n\r\n", None, "answer_invalid"),
        (b"", None, "answer_invalid"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000, None, "answer_invalid"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, "refused"),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 410, "refused"),
    ],
)
async def test_an_answer_that_does_not_do_is_told_by_a_word(answer: bytes, status: int | None, error: str) -> None:
    async with receiver(answer) as server:
        found = await names(["127.0.0.1"])[1].post(f"http://hooks.invalid:{server.port}/", {}, b"{}")
    assert (found.status, found.error) == (status, error)


@pytest.mark.parametrize(("said", "heard"), [("120", 120.0), ("soon", None), ("-1", None), ("9" * 400, None)])
async def test_a_server_may_ask_for_time(said: str, heard: float | None) -> None:
    head = f"HTTP/1.1 429 Too Many\r\nRetry-After: {said}\r\nContent-Length: 0\r\n\r\n"
    async with receiver(head.encode()) as server:
        answer = await names(["127.0.0.1"])[1].post(f"http://hooks.invalid:{server.port}/", {}, b"{}")
    assert answer.retry_after_s == heard


async def test_nothing_of_the_environment_leads_it_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as proxy, receiver() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await names(["127.0.0.1"])[1].post(f"http://hooks.invalid:{server.port}/", {}, json.dumps({}).encode())
    assert (len(proxy.heads), len(server.heads)) == (0, 1)
