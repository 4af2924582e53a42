from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from fake_engine import Peer
from hypothesis import given
from hypothesis import strategies as st

from sandgraph.sandbox.channel import Channel, Demultiplexer
from sandgraph_runner.protocol import Kind, ProtocolError, encode

pytestmark = pytest.mark.anyio


def piece(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(data)) + data


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20)), max_size=8), st.data())
def test_pieces_are_put_together_wherever_the_stream_is_cut(
    pieces: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(piece(*each) for each in pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    demultiplexer = Demultiplexer()
    found = {1: b"", 2: b""}
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for which, part in demultiplexer.feed(stream[start:end]):
            found[which] += part
    assert found == {which: b"".join(text for each, text in pieces if each == which) for which in (1, 2)}


@pytest.mark.parametrize("data", [piece(0, b"x"), piece(3, b"x"), b"HTTP/1.1 200 OK\r\n"])
def test_what_is_no_multiplexed_stream_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Demultiplexer().feed(data))


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, Peer, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    theirs.settimeout(0)
    channel = Channel(ours, 1000)
    yield channel, Peer(theirs), theirs
    channel.close()
    theirs.close()


Ends = tuple[Channel, Peer, socket.socket]


async def test_frames_come_one_by_one_although_they_were_sent_together(ends: Ends) -> None:
    channel, peer, _ = ends
    await peer.stdout(encode(Kind.HEARTBEAT, {}) + encode(Kind.LOG, {"lines": []}, b"body"))
    first, second = await channel.receive(), await channel.receive()
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind, second.body) == (Kind.HEARTBEAT, Kind.LOG, b"body")
    assert channel.is_between_frames


async def test_a_frame_may_come_byte_by_byte(ends: Ends) -> None:
    channel, peer, _ = ends
    receiving = asyncio.create_task(channel.receive())
    for byte in encode(Kind.HELLO, {"version": 1}):
        await peer.stdout(bytes([byte]))
        await asyncio.sleep(0)
    frame = await receiving
    assert frame is not None
    assert frame.read_meta() == {"version": 1}


@pytest.mark.parametrize("sent", [b"", encode(Kind.HELLO, {})[:-1], encode(Kind.HELLO, {})[:3]])
async def test_the_end_of_the_stream_is_none_even_within_a_frame(ends: Ends, sent: bytes) -> None:
    channel, peer, theirs = ends
    await peer.stdout(sent)
    theirs.close()
    assert await channel.receive() is None
    assert await channel.receive() is None
    assert not channel.is_alive()


async def test_frames_sent_before_the_end_are_still_there(ends: Ends) -> None:
    channel, peer, theirs = ends
    await peer.lines("last words")
    await peer.say(Kind.HEARTBEAT)
    theirs.close()
    assert (await channel.receive() or pytest.fail("the end")).kind is Kind.LOG
    assert (await channel.receive() or pytest.fail("the end")).kind is Kind.HEARTBEAT
    assert await channel.receive() is None


@pytest.mark.parametrize(
    "sent",
    [struct.pack(">IB", 1001, Kind.LOG), struct.pack(">IB", 0, Kind.LOG), struct.pack(">IBI", 4, 99, 0), b"\xff" * 9],
    ids=["too long", "too short", "unknown kind", "noise"],
)
async def test_what_is_no_frame_is_refused(ends: Ends, sent: bytes) -> None:
    channel, peer, _ = ends
    await peer.stdout(sent)
    with pytest.raises(ProtocolError):
        await channel.receive()


async def test_the_limit_can_be_changed_and_what_came_stays(ends: Ends) -> None:
    channel, peer, _ = ends
    await peer.stdout(encode(Kind.HEARTBEAT, {}) * 2 + encode(Kind.RESULT, {}, b"x" * 4000))
    await channel.receive()
    assert not channel.is_between_frames
    channel.expect(5000)
    await channel.receive()
    assert len((await channel.receive() or pytest.fail("the end")).body) == 4000
    channel.expect(3000)
    await peer.say(Kind.RESULT, {}, b"x" * 4000)
    with pytest.raises(ProtocolError):
        await channel.receive()


async def test_nothing_is_read_ahead_of_its_use(ends: Ends) -> None:
    channel, peer, _ = ends
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await peer.say(Kind.LOG, {}, b"x" * 900)
            sent += 1

    flooding = asyncio.create_task(flood())
    await channel.receive()
    await asyncio.sleep(0.1)
    before = sent
    await asyncio.sleep(0.1)
    assert sent == before, "the sandbox was not held up"
    flooding.cancel()


async def test_of_what_the_supervisor_says_on_stderr_the_end_is_kept(ends: Ends) -> None:
    channel, peer, _ = ends
    await peer.stderr(b"early" + b"x" * 50_000 + b"late")
    await peer.say(Kind.HEARTBEAT)
    await channel.receive()
    assert len(channel.diagnostics) == 8192
    assert channel.diagnostics.endswith("xlate")


async def test_being_alive_is_seen_without_waiting(ends: Ends) -> None:
    channel, peer, theirs = ends
    assert channel.is_alive()
    await peer.say(Kind.HEARTBEAT)
    assert channel.is_alive()
    await channel.receive()
    theirs.close()
    assert not channel.is_alive()


async def test_shutting_down_wakes_whoever_waits(ends: Ends) -> None:
    channel, _, _ = ends
    receiving = asyncio.create_task(channel.receive())
    sending = asyncio.create_task(channel.send([b"x" * 10_000_000]))
    await asyncio.sleep(0.05)
    channel.shut_down()
    assert await asyncio.wait_for(receiving, 1) is None
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await asyncio.wait_for(sending, 1)
