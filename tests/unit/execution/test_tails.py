"""One reads for all: whoever follows a run sees every record once, in order, however slow it or others are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from sandgraph.errors import NotFound, Unavailable
from sandgraph.execution import tails as module
from sandgraph.execution.bus import Bus
from sandgraph.execution.tails import PAGE, Tails
from sandgraph.execution.turns import FEW
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.store.records import JournalRecord, TailPage
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

KEY = NodeRunKey("work", 1)
GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))


class World:
    """A store, a run, and readers of it."""

    def __init__(self, store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.run_id = store, run_id
        self.bus = Bus()
        self.tails = Tails(store, self.bus)
        self.reads = 0
        read = store.tail

        async def counted(run_id: str, *, after: int, limit: int) -> TailPage:
            self.reads += 1
            return await read(run_id, after=after, limit=limit)

        monkeypatch.setattr(store, "tail", counted)

    async def say(self, *texts: str) -> None:
        await self.store.append_logs(self.run_id, KEY, 1, [LogLine("stdout", 0, text) for text in texts])
        self.bus.publish(self.run_id)

    async def end(self) -> None:
        await self.store.apply(self.run_id, [RecordRun(RunStatus.RUNNING)])
        await self.store.apply(self.run_id, [RecordRun(RunStatus.COMPLETED, None, {})])
        self.bus.publish(self.run_id)

    async def seen(self, after: int = 0, pause: float | None = None) -> list[int]:
        """Follow to the end; return the numbers that were seen."""
        numbers = []
        async with asyncio.timeout(30), aclosing(self.tails.follow(self.run_id, after)) as batches:
            async for batch in batches:
                numbers += [record.seq for record in batch]
                if pause is not None:
                    await asyncio.sleep(pause)
        return numbers


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    store = await Store.open(tmp_path)
    graph, _ = await store.save_graph(GRAPH)
    run, _ = await store.create_run(graph, {}, functions={}, tools={}, image="image")
    made = World(store, run.run_id, monkeypatch)
    yield made
    await made.tails.close()
    await store.close()


async def until_all_wait(world: World, readers: int) -> None:
    async with asyncio.timeout(20):
        while world.tails.readers < readers or sum(len(t.waiting) for t in world.tails._tails.values()) < readers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("count", [1, 10 * FEW])
async def test_a_batch_is_read_once_however_many_follow(world: World, count: int) -> None:
    readers = [asyncio.create_task(world.seen()) for _ in range(count)]
    await until_all_wait(world, count)
    before = world.reads
    for i in range(10):
        await world.say(*(f"{i} {j}" for j in range(5)))
        await until_all_wait(world, count)
    assert world.reads - before <= 2 * 10
    await world.end()
    whole = list(range(1, 1 + 1 + 50 + 2))
    assert [await reader for reader in readers] == [whole] * count
    assert (world.tails.readers, world.tails.size, world.tails._pages) == (0, 0, {})


async def test_what_is_stored_is_read_once_for_all_that_come_together(world: World) -> None:
    lines = 10 * PAGE
    await world.say(*(f"{i}" for i in range(lines)))
    await world.end()
    found = await asyncio.gather(*(world.seen() for _ in range(50)))
    assert all(numbers == list(range(1, lines + 4)) for numbers in found)
    # Each page once, and the first look.
    assert world.reads == 11 + 1


async def test_a_slow_reader_holds_up_nobody_and_misses_nothing(world: World) -> None:
    slow = asyncio.create_task(world.seen(pause=0.05))
    fast = [asyncio.create_task(world.seen()) for _ in range(FEW * 2)]
    await until_all_wait(world, FEW * 2 + 1)
    for i in range(20):
        await world.say(*(f"{i} {j}" for j in range(50)))
    await world.end()
    whole = list(range(1, 1 + 1 + 1_000 + 2))
    assert await asyncio.gather(*fast) == [whole] * len(fast)
    assert not slow.done()
    assert await slow == whole


@pytest.mark.parametrize("most_bytes", [0, 100_000])
async def test_memory_is_bounded_and_what_is_kept_no_more_is_read_again(world: World, most_bytes: int) -> None:
    world.tails = Tails(world.store, world.bus, most_bytes)
    readers = [asyncio.create_task(world.seen(pause=0.001 if i % 2 else None)) for i in range(6)]
    await until_all_wait(world, 6)
    for i in range(10):
        await world.say(*(f"{i} {j} {'x' * 1_000}" for j in range(40)))
        assert world.tails.size <= most_bytes
    await world.end()
    assert await asyncio.gather(*readers) == [list(range(1, 404))] * 6


async def test_a_reader_comes_back_anywhere(world: World) -> None:
    await world.say(*(f"{i}" for i in range(2 * PAGE)))
    await world.end()
    last = 2 * PAGE + 3
    for after in (0, 1, PAGE - 1, PAGE, PAGE + 1, last - 1, last):
        assert await world.seen(after) == list(range(after + 1, last + 1))


async def test_a_reader_that_goes_away_leaves_nothing_behind(world: World) -> None:
    readers = [asyncio.create_task(world.seen()) for _ in range(3 * FEW)]
    await until_all_wait(world, 3 * FEW)
    await world.say("one")
    for reader in readers[:-1]:
        reader.cancel()
    await asyncio.gather(*readers[:-1], return_exceptions=True)
    await world.end()
    assert await readers[-1] == [1, 2, 3, 4]
    assert world.tails._tails == {}
    assert world.bus._readers == {}


async def test_long_lines_come_a_few_at_a_time(world: World) -> None:
    await world.say(*("x" * 16_000 for _ in range(50)))
    await world.end()
    async with aclosing(world.tails.follow(world.run_id, 0)) as batches:
        sizes = [sum(len(record.message) for record in batch) async for batch in batches]
    assert max(sizes) <= 81_000
    assert sum(sizes) >= 800_000


async def test_a_run_that_there_is_not_is_told_to_all_and_forgotten(world: World) -> None:
    async def follow() -> list[Any]:
        return [batch async for batch in world.tails.follow("run_0", 0)]

    found = await asyncio.gather(*(follow() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, NotFound) for each in found)
    assert world.tails._tails == {}


async def test_a_database_that_does_not_answer_ends_readers_and_the_next_ones_begin_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = asyncio.create_task(world.seen())
    await until_all_wait(world, 1)
    read = world.store.tail

    async def broken(_run_id: str, **_: int) -> TailPage:
        raise Unavailable("The database does not answer.")

    monkeypatch.setattr(world.store, "tail", broken)
    world.bus.publish(world.run_id)
    with pytest.raises(Unavailable):
        await reader
    monkeypatch.setattr(world.store, "tail", read)
    await world.end()
    assert await world.seen() == [1, 2, 3]


async def test_whoever_follows_as_the_platform_ends_sees_what_there_is(world: World) -> None:
    readers = [asyncio.create_task(world.seen()) for _ in range(2 * FEW)]
    await until_all_wait(world, 2 * FEW)
    await world.store.append_logs(world.run_id, KEY, 1, [LogLine("stdout", 0, "last words")])
    await world.tails.close()
    assert await asyncio.gather(*readers) == [[1, 2]] * len(readers)


async def test_a_reader_never_holds_up_the_event_loop_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 4)
    handed: list[int] = []

    async def follow() -> None:
        async for batch in world.tails.follow(world.run_id, 0):
            handed.extend(record.seq for record in batch)

    readers = [asyncio.create_task(follow()) for _ in range(200)]
    await until_all_wait(world, 200)
    handed.clear()
    await world.say("one")
    most = before = 0
    while len(handed) < 200:
        # Between two rounds of the loop only a few of them were served.
        most, before = max(most, len(handed) - before), len(handed)
        await asyncio.sleep(0)
    assert 0 < most <= 50
    await world.end()
    await asyncio.gather(*readers)


async def test_records_are_the_same_objects_for_all(world: World) -> None:
    await world.say("one")
    await world.end()

    async def all_of() -> list[JournalRecord]:
        return [record async for batch in world.tails.follow(world.run_id, 0) for record in batch]

    one, two = await asyncio.gather(all_of(), all_of())
    assert [id(record) for record in one] == [id(record) for record in two]
