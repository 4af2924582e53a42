"""A run as its history tells it: its state at a checkpoint or by now, and the run itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sandgraph.errors import Conflict
from sandgraph.model.event_document import from_document
from sandgraph.model.history import state_so_far
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import Json
from sandgraph.store.records import CommitRecord, RunRecord
from sandgraph.store.store import Store


@dataclass(frozen=True, slots=True)
class Writer:
    """Who set a key.

    Attributes:
        commit: Number of the checkpoint; 0 is the initial state.
        key: The node run; None where it came with the initial state.
        attempt: The attempt, where one did.
    """

    commit: int
    key: NodeRunKey | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """A state, and where it stands in the run's history.

    Attributes:
        data: The state.
        commit: Number of the checkpoint, or of the last commit so far.
        conflicts: Keys that branches in flight have both set; ``data`` has the latest commit's value.
        writers: Who set each key last.
    """

    data: Mapping[str, Json]
    commit: int
    conflicts: tuple[str, ...] = ()
    writers: Mapping[str, Writer] = field(default_factory=dict)


async def read_state(store: Store, run_id: str, at: int | None) -> RunState:
    """Return the state of checkpoint ``at``, or without it the final state, or the merge of all branches so far.

    Raises:
        NotFound: There is no such run, or it has no such checkpoint.
    """
    if at is not None:
        found = await store.checkpoint(run_id, at)
        return RunState(found.state, at, (), await _authors(store, run_id, found.state, found.writers))
    run = await store.run(run_id)
    if run.final_state is not None:
        last = await store.checkpoint(run_id, run.last_commit)
        if last.state == run.final_state:
            writers = await _authors(store, run_id, last.state, last.writers)
            return RunState(run.final_state, run.last_commit, (), writers)
    commits = await store.commits(run_id)
    # There may be thousands: on a thread, so that the steps of runs find their turn.
    return await asyncio.to_thread(_so_far, run, commits)


def _so_far(run: RunRecord, commits: Sequence[CommitRecord]) -> RunState:
    # What goes on inside a subgraph is seen outside once it ends.
    outside = [commit for commit in commits if not commit.scope]
    latest = {op.key: commit for commit in outside for op in commit.diff.ops}
    if run.final_state is not None:
        return RunState(run.final_state, run.last_commit, (), _written(run.final_state, latest))
    data, conflicts = state_so_far(run.initial_state, outside)
    keys = tuple(dict.fromkeys(each.key for each in conflicts))
    return RunState(data, run.last_commit, keys, _written(data, latest))


def _written(state: Iterable[str], latest: Mapping[str, CommitRecord]) -> dict[str, Writer]:
    return {key: _writer(latest[key]) if key in latest else Writer(0) for key in state}


def _writer(commit: CommitRecord) -> Writer:
    return Writer(commit.number, NodeRunKey(commit.node, commit.iteration, commit.scope), commit.attempt)


async def _authors(store: Store, run_id: str, state: Iterable[str], numbers: Mapping[str, int]) -> dict[str, Writer]:
    wanted = {key: numbers.get(key, 0) for key in state}
    made = await store.authors(run_id, set(wanted.values()) - {0})
    writers = {0: Writer(0), **{number: Writer(number, key, attempt) for number, (key, attempt) in made.items()}}
    return {key: writers[number] for key, number in wanted.items()}


async def read_told(store: Store, record: RunRecord, after: int = 0) -> AsyncIterator[list[Told]]:
    """Yield what a run was told, in parts: all diffs of a run together may be more than the memory.

    Raises:
        ValueError: What is kept cannot be read.
    """
    while kept := await store.run_events(record.run_id, after=after):
        after = kept[-1].number
        yield [
            Told(from_document(each.document, record.initial_state, each.diff), each.at, each.commit) for each in kept
        ]


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


async def all_told(store: Store, record: RunRecord) -> list[Told]:
    """Return all that a run was told.

    Raises:
        Conflict: Nothing is kept of that, or it cannot be read (``not_recoverable``).
    """
    try:
        told = [each async for part in read_told(store, record) for each in part]
    except ValueError as error:
        raise not_recoverable(record.run_id, error) from error
    if not told and record.started_at is not None:
        raise not_recoverable(record.run_id, "what it was told was not stored")
    return told


def not_recoverable(run_id: str, why: object) -> Conflict:
    """Return the error of a run that cannot be made again."""
    return Conflict(f"The run {run_id} cannot be made again: {why}.", code="not_recoverable")
