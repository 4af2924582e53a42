"""Follows runs for any number of readers: one of them reads the database for all, and each has but a number."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from operator import attrgetter

from sandgraph.errors import SandgraphError
from sandgraph.execution.bus import Bus
from sandgraph.execution.turns import FEW, Turns
from sandgraph.store.columns import to_json
from sandgraph.store.logs import gap
from sandgraph.store.records import JournalRecord, TailPage
from sandgraph.store.store import Store

#: Numbers of a page.
PAGE = 128

#: Records, and characters of their messages, that one reader gets at a time.
_MOST_RECORDS = 32
_MOST_TEXT = 64 * 1024

#: Bytes of all pages that are kept for readers to come, about.
MOST_BYTES = 32 * 1024 * 1024

#: Pages that are read from the database at the same time: others want to read it too.
_LOADS = 2

_SEQ = attrgetter("seq")


@dataclass(eq=False, slots=True)
class _Page:
    """The records above ``low``, up to ``upto``."""

    low: int
    upto: int
    records: list[JournalRecord]
    kept_from: int
    removed: int
    size: int = 0

    def batch(self, after: int) -> tuple[Sequence[JournalRecord], int]:
        """Return what follows a number, no more than one reader gets at a time, and the number that it then is at."""
        first = last = bisect_right(self.records, after, key=_SEQ)
        text = 0
        while last < len(self.records) and last - first < _MOST_RECORDS and text < _MOST_TEXT:
            text += len(self.records[last].message)
            last += 1
        batch = self.records[first:last]
        return batch, batch[-1].seq if last < len(self.records) else self.upto


@dataclass(eq=False, slots=True)
class _Tail:
    """A run that is being followed."""

    run_id: str
    readers: int = 0
    #: The number up to which it was read.
    head: int = 0
    is_final: bool = False
    error: SandgraphError | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    #: Readers that have seen all there is.
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    loading: dict[int, asyncio.Future[_Page]] = field(default_factory=dict)
    pump: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.is_final or self.error is not None


class Tails:
    """Readers of runs in flight, and of others.

    What is new is read once, kept for a while within a bound of all memory that this takes, and handed to readers in
    turns. A slow reader holds up nobody and costs nothing: it is a number, and reads from the database what is kept no
    more, together with all that are at the same place.

    Args:
        store: Has the records.
        bus: Tells of new ones.
        most_bytes: What pages may take, about.
    """

    def __init__(self, store: Store, bus: Bus, most_bytes: int = MOST_BYTES) -> None:
        self._store = store
        self._bus = bus
        self._most_bytes = most_bytes
        self._tails: dict[str, _Tail] = {}
        self._pages: OrderedDict[tuple[str, int], _Page] = OrderedDict()
        self._size = 0
        self._turns = Turns()
        self._loads = asyncio.Semaphore(_LOADS)
        self._readers = 0
        self._is_closed = False

    @property
    def readers(self) -> int:
        """How many follow, all runs together."""
        return self._readers

    @property
    def size(self) -> int:
        """Bytes that the pages take, about."""
        return self._size

    async def follow(self, run_id: str, after: int) -> AsyncGenerator[list[JournalRecord]]:
        """Yield a run's records above a number: those that are stored, then those that come, up to the run's end.

        Where lines are kept no more, a record of the kind ``gap`` stands for them. At the platform's end, records stop.

        Raises:
            NotFound: There is no such run.
        """
        tail = self._tails.get(run_id)
        if tail is None or tail.error is not None:
            tail = self._tails[run_id] = _Tail(run_id)
            tail.pump = asyncio.create_task(self._pump(tail), name=f"tail {run_id}")
        tail.readers += 1
        self._readers += 1
        try:
            await tail.opened.wait()
            async with aclosing(self._read(tail, after)) as batches:
                async for records in batches:
                    yield records
        finally:
            self._readers -= 1
            tail.readers -= 1
            if not tail.readers:
                self._end(tail)

    async def close(self) -> None:
        """Let readers see what there is, and then end."""
        tails = list(self._tails.values())
        pumps = [tail.pump for tail in tails if tail.pump is not None]
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for tail in tails:
            with suppress(SandgraphError):
                await self._catch_up(tail)
        self._is_closed = True
        for tail in tails:
            tail.opened.set()
            self._wake(tail)
        await self._turns.close()

    async def _read(self, tail: _Tail, after: int) -> AsyncGenerator[list[JournalRecord]]:
        told, has_turn = 0, False
        while True:
            if tail.error is not None:
                raise tail.error
            if after >= tail.head:
                if tail.is_final or self._is_closed:
                    return
                await self._news(tail)
                has_turn = True
                continue
            page = self._page(tail, after) or await self._load(tail, after)
            batch, upto = page.batch(after)
            if page.removed and max(after, told) < page.kept_from - 1:
                told = page.kept_from - 1
                yield [gap(after + 1, told, page.removed)]
            if batch:
                if self._readers > FEW and not has_turn:
                    await self._turns.take(len(batch))
                yield list(batch)
            # Or the page would live as long as a slow reader is busy with what it got.
            del page, batch
            after, has_turn = upto, False

    async def _news(self, tail: _Tail) -> None:
        future = asyncio.get_running_loop().create_future()
        tail.waiting.append(future)
        await future

    def _wake(self, tail: _Tail, records: int = 1) -> None:
        """Let who has seen all there was go on: a few at once, many in turns."""
        waiting, tail.waiting = tail.waiting, []
        for future in waiting:
            if self._readers > FEW and not self._is_closed:
                self._turns.ask(future, min(records, _MOST_RECORDS))
            elif not future.done():
                future.set_result(None)

    # What is new

    async def _pump(self, tail: _Tail) -> None:
        try:
            with self._bus.subscribe(tail.run_id) as news:
                found = await self._store.tail(tail.run_id, after=0, limit=0)
                tail.head, tail.is_final = found.last_seq, found.is_final
                tail.opened.set()
                while not tail.is_final:
                    await news.wait()
                    await self._catch_up(tail)
        except SandgraphError as error:
            tail.error = error
            tail.opened.set()
        self._wake(tail)

    async def _catch_up(self, tail: _Tail) -> None:
        while True:
            found = await self._store.tail(tail.run_id, after=tail.head, limit=PAGE)
            upto = min(tail.head + PAGE, found.last_seq)
            if upto > tail.head:
                self._add(tail, found, upto)
            tail.head = max(tail.head, upto)
            tail.is_final = found.is_final and tail.head == found.last_seq
            self._wake(tail, len(found.records))
            if tail.head >= found.last_seq:
                return

    def _add(self, tail: _Tail, found: TailPage, upto: int) -> None:
        low = tail.head
        for index in range(low // PAGE, (upto - 1) // PAGE + 1):
            end = min(upto, (index + 1) * PAGE)
            records = [record for record in found.records if max(low, index * PAGE) < record.seq <= end]
            page = self._pages.get((tail.run_id, index))
            if page is None or page.upto != max(low, index * PAGE):
                page = _Page(max(low, index * PAGE), end, [], found.kept_from, found.removed)
            else:
                # Readers that have the old one go on with it.
                page = _Page(page.low, end, page.records, page.kept_from, page.removed, page.size)
            page.records = [*page.records, *records]
            self._keep(tail.run_id, index, page, records)

    # What was before

    def _page(self, tail: _Tail, after: int) -> _Page | None:
        key = tail.run_id, after // PAGE
        page = self._pages.get(key)
        if page is None or not page.low <= after < page.upto:
            return None
        self._pages.move_to_end(key)
        return page

    async def _load(self, tail: _Tail, after: int) -> _Page:
        """Read a page, once for all that are there."""
        index = after // PAGE
        loading = tail.loading.get(index)
        if loading is None:
            loading = tail.loading[index] = asyncio.ensure_future(self._fetch(tail, index))
            loading.add_done_callback(lambda _: tail.loading.pop(index, None))
        return await asyncio.shield(loading)

    async def _fetch(self, tail: _Tail, index: int) -> _Page:
        async with self._loads:
            low = index * PAGE
            found = await self._store.tail(tail.run_id, after=low, limit=PAGE)
        page = _Page(low, min(low + PAGE, found.last_seq), list(found.records), found.kept_from, found.removed)
        # One that grows yet is kept by whoever reads what is new.
        if (page.upto == low + PAGE or found.is_final) and self._tails.get(tail.run_id) is tail:
            self._keep(tail.run_id, index, page, page.records)
        return page

    # Memory

    def _keep(self, run_id: str, index: int, page: _Page, new: Sequence[JournalRecord]) -> None:
        old = self._pages.pop((run_id, index), None)
        self._size -= old.size if old else 0
        page.size += sum(map(_size, new))
        self._pages[run_id, index] = page
        self._size += page.size
        while self._size > self._most_bytes:
            self._size -= self._pages.popitem(last=False)[1].size

    def _end(self, tail: _Tail) -> None:
        if tail.pump is not None:
            tail.pump.cancel()
        if self._tails.get(tail.run_id) is not tail:
            return
        del self._tails[tail.run_id]
        for key in [key for key in self._pages if key[0] == tail.run_id]:
            self._size -= self._pages.pop(key).size


def _size(record: JournalRecord) -> int:
    """Return what a record takes, about, with the text that is made of it: rather too much than too little."""
    diff = record.data.get("diff")
    return 1_500 + 4 * len(record.message) + (10 * len(to_json(diff)) if diff else 0)
