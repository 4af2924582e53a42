"""A run as its history tells it: made again from what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from sandgraph.errors import Conflict
from sandgraph.model.event_document import from_document
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.state import Json
from sandgraph.store.records import RunRecord, StoredEvent
from sandgraph.store.store import Store


async def read_told(store: Store, record: RunRecord, after: int = 0) -> AsyncIterator[list[Told]]:
    """Yield what a run was told, in parts: all diffs of a run together may be more than the memory.

    Raises:
        ValueError: What is kept cannot be read.
    """
    while kept := await store.run_events(record.run_id, after=after):
        after = kept[-1].number
        # On a thread, so that the steps of other runs find their turn.
        yield await asyncio.to_thread(_told, record.initial_state, kept)


def _told(initial: Mapping[str, Json], kept: Iterable[StoredEvent]) -> list[Told]:
    return [Told(from_document(each.document, initial, each.diff), each.at, each.commit) for each in kept]


async def read_past(store: Store, record: RunRecord, fresh: Past) -> Past:
    """Return a run as far as it was told.

    Args:
        store: Keeps what it was told.
        record: Of the run.
        fresh: The run before it was told anything.

    Raises:
        ValueError: What is kept of it does not lead to where it stood.
    """
    past = fresh
    async for told in read_told(store, record, past.number):
        # On a thread, so that the steps of other runs find their turn.
        past = await asyncio.to_thread(replay, past, told)
    if past.run.commits != record.last_commit or past.run.status.is_final:
        raise ValueError(f"after {past.number} events it is {past.run.status} at commit {past.run.commits}")
    return past


def not_recoverable(run_id: str, why: object) -> Conflict:
    """Return the error of a run that cannot be made again."""
    return Conflict(f"The run {run_id} cannot be made again: {why}.", code="not_recoverable")
