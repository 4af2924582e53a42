"""A thousand that follow one busy run, two hundred of them slow: what other runs notice, and what memory it takes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import watched
from bench.neighbours import neighbours
from bench.report import Figure, at_most, milliseconds, note, percentile
from served import Served, serve

_TAILS, _SLOW = 1_000, 200
_GROWTH_MB = 100.0
_TIMES = 2.0
_PACE_S = 0.15
_PING, _PONG = 9, 10
_LINES = 5
_BUSY = f"""
import time

def busy(state):
    for i in range(state["rounds"]):
        for j in range({_LINES}):
            print(i, j, "x" * 80)
        time.sleep(1)
"""


@dataclass(slots=True)
class Seen:
    """What one that follows saw: the numbers, in order, and whether the end was among them."""

    seqs: list[int] = field(default_factory=list)
    has_end: bool = False

    def take(self, text: str) -> None:
        """Take a record in."""
        record = json.loads(text)
        self.seqs.append(record["seq"])
        self.has_end = record["final"]


async def follow(url: str, run_id: str, seen: Seen | None, *, as_events: bool, ready: asyncio.Semaphore) -> None:
    """Follow a run to its end; without ``seen``, take nothing of it."""
    where = urlsplit(url)
    # A client that takes nothing has small buffers, too: it is felt soon.
    limit = 64 * 1024 if seen is not None else 1_024
    async with ready:
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=limit)
        path = f"/graph/logs/{run_id}?follow=true&events=true" if as_events else f"/graph/ws/{run_id}"
        head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
        if not as_events:
            key = base64.b64encode(os.urandom(16)).decode()
            head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            head += f"Sec-WebSocket-Key: {key}\r\n"
        writer.write(f"{head}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in answer[:20] and b" 101 " not in answer[:20]:
        raise SystemExit(f"refused: {answer[:100]!r}")
    try:
        if seen is None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3_600)
        while seen is not None and not seen.has_end:
            for text in await (_events(reader) if as_events else _message(reader, writer)):
                seen.take(text)
    finally:
        writer.transport.abort()


async def _events(reader: asyncio.StreamReader) -> list[str]:
    line = await reader.readline()
    return [line[6:].decode()] if line.startswith(b"data: ") else []


async def _message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[str]:
    first, length = await reader.readexactly(2)
    if length == 126:  # noqa: PLR2004 - two more bytes follow
        length = int.from_bytes(await reader.readexactly(2), "big")
    payload = await reader.readexactly(length)
    if first & 15 == _PING:
        # As clients' frames are: masked, here with nothing but zeros.
        writer.write(bytes([0x80 | _PONG, 0x80 | length, 0, 0, 0, 0]) + payload)
    return [payload.decode()] if first & 15 == 1 else []


async def _tails(url: str, run_id: str, ready: threading.Event) -> list[Seen]:
    """Return what the fast ones saw; the slow ones are there for as long."""
    opening, all_seen = asyncio.Semaphore(50), [Seen() for _ in range(_TAILS - _SLOW)]
    slow = [asyncio.create_task(follow(url, run_id, None, as_events=i % 2 == 0, ready=opening)) for i in range(_SLOW)]
    fast = [
        asyncio.create_task(follow(url, run_id, seen, as_events=i % 2 == 0, ready=opening))
        for i, seen in enumerate(all_seen)
    ]
    while not all(seen.seqs for seen in all_seen):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.1)
    ready.set()
    await asyncio.gather(*fast)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    return all_seen


@contextmanager
def _followed(url: str, run_id: str, found: list[Seen]) -> Iterator[None]:
    """Have a run followed from beginning to end; the block runs once all are there."""
    ready = threading.Event()
    thread = threading.Thread(target=lambda: found.extend(asyncio.run(_tails(url, run_id, ready))), name="tails")
    thread.start()
    if not ready.wait(120):
        raise SystemExit("not all got through in time")
    try:
        yield
    finally:
        thread.join()


def _start(platform: Served, graph_id: str, rounds: int) -> str:
    run_id: str = platform.post("/graph/run_async", {"graph_id": graph_id, "initial_state": {"rounds": rounds}})[
        "run_id"
    ]
    return run_id


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Measure other runs beside a busy run that nobody follows, and beside one that a thousand do."""
    count, rounds = (40, 40) if quick else (150, 90)
    found: list[Seen] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(
            Path(folder), "bench", key_max_streams=0, key_streams_per_minute=0, address_requests_per_minute=0
        ) as platform,
    ):
        platform.register("def noop(state):\n    pass\n", "noop")
        noop = platform.post("/graph/create", platform.graph_of("noop"))["graph_id"]
        platform.register(_BUSY, "busy")
        busy = platform.post("/graph/create", platform.graph_of("busy", limits={"timeout_s": 300}))["graph_id"]
        neighbours(platform, noop, 5, _PACE_S)
        lonely = _start(platform, busy, rounds)
        alone = neighbours(platform, noop, count, _PACE_S)
        platform.client.post(f"/graph/cancel/{lonely}")
        run_id = _start(platform, busy, rounds)
        with watched(platform.process.pid) as watch, _followed(platform.url, run_id, found):
            note(f"… {_TAILS} follow")
            beside = neighbours(platform, noop, count, _PACE_S)
            status = platform.get(f"/graph/status/{run_id}")["status"]
        if status != "running":
            raise SystemExit("the busy run ended too early")
        last = platform.get(f"/graph/status/{run_id}")["last_seq"]
    if len(found) != _TAILS - _SLOW:
        raise SystemExit("those that follow did not get to the end")
    whole = sum(seen.seqs == list(range(1, last + 1)) for seen in found)
    ratio = percentile(beside, 99) / percentile(alone, 99)
    return [
        Figure("other runs beside one that prints, p50 and p99", _both(alone)),
        Figure(f"the same, while {_TAILS} follow it, {_SLOW} of them taking nothing", _both(beside)),
        at_most("p99 of other runs over theirs without followers", ratio, _TIMES, "x"),
        at_most(f"growth of the platform's memory with {_TAILS} that follow", watch.growth_mb, _GROWTH_MB, "MB"),
        at_most(f"fast followers, of {_TAILS - _SLOW}, that did not see all in order", len(found) - whole, 0, ""),
    ]


def _both(seconds: list[float]) -> str:
    return f"{milliseconds(statistics.median(seconds))} and {milliseconds(percentile(seconds, 99))}"
