"""A run as its history tells it: its state at a checkpoint or by now, and the run itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from sandgraph.errors import NotFound
from sandgraph.model.event_document import from_document
from sandgraph.model.history import state_at, state_so_far
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.state import Json
from sandgraph.store.records import RunRecord
from sandgraph.store.store import Store


@dataclass(frozen=True, slots=True)
class RunState:
    """A state, and where it stands in the run's history.

    Attributes:
        data: The state.
        commit: Number of the checkpoint, or of the last commit so far.
        conflicts: Keys that branches in flight have both set; ``data`` has the latest commit's value.
    """

    data: Mapping[str, Json]
    commit: int
    conflicts: tuple[str, ...] = ()


async def read_state(store: Store, run_id: str, at: int | None) -> RunState:
    """Return the state of checkpoint ``at``, or without it the final state, or the merge of all branches so far.

    Raises:
        NotFound: There is no such run, or it has no such checkpoint.
    """
    run = await store.run(run_id)
    if at is not None:
        found = state_at(run.initial_state, await store.commits(run_id, upto=at), at)
        if found is None:
            raise NotFound("checkpoint", str(at))
        return RunState(found, at)
    if run.final_state is not None:
        return RunState(run.final_state, run.last_commit)
    data, conflicts = state_so_far(run.initial_state, await store.commits(run_id))
    return RunState(data, run.last_commit, tuple(dict.fromkeys(each.key for each in conflicts)))


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
    # In parts: all diffs of a run together may be more than the memory.
    while kept := await store.run_events(record.run_id, after=past.number):
        told = [
            Told(from_document(each.document, record.initial_state, each.diff), each.at, each.commit) for each in kept
        ]
        # On a thread, so that the steps of other runs find their turn.
        past = await asyncio.to_thread(replay, past, told)
    if past.run.commits != record.last_commit or past.run.status.is_final:
        raise ValueError(f"after {past.number} events it is {past.run.status} at commit {past.run.commits}")
    return past
