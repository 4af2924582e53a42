"""A run as its history tells it: its state at a checkpoint or by now, and the run itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sandgraph.errors import Conflict
from sandgraph.model.commands import EMPTY
from sandgraph.model.event_document import from_document
from sandgraph.model.history import Apart, apart, state_so_far
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import Json, StateDiff
from sandgraph.store.records import Checkpoint, CommitRecord, RunRecord, StoredEvent
from sandgraph.store.store import Store

#: So many commits, or keys, of branches that have not met the newest one are looked for among its own.
_FEW = 32


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
    so_far = await _so_far(store, run)
    # A run that ended has no conflicts left, and no other state than its last one.
    is_final = run.final_state is not None
    data = so_far.state if run.final_state is None else run.final_state
    writers = await _authors(store, run_id, data, so_far.writers)
    return RunState(data, run.last_commit, () if is_final else so_far.conflicts, writers)


@dataclass(frozen=True, slots=True)
class _SoFar:
    """A state of all branches together; ``writers`` has the number of the commit that changed each key last."""

    state: Mapping[str, Json]
    writers: Mapping[str, int]
    conflicts: tuple[str, ...] = ()


async def _so_far(store: Store, run: RunRecord) -> _SoFar:
    """Return what all branches of a run did, at a cost that depends on how far they are apart, and not on its length.

    What met is as it was merged, but for keys that several branches changed that have not met. What goes on inside a
    subgraph is seen outside once it ends.
    """
    known = await store.commit_parents(run.run_id, upto=run.last_commit)
    # There may be thousands: on a thread, so that the steps of runs find their turn.
    parted = await asyncio.to_thread(apart, known)
    before = await store.checkpoint(run.run_id, parted.since)
    if not parted.commits:
        return _SoFar(before.state, before.writers)
    keys = await _keys_beside(store, run, parted)
    upto = parted.commits[-1][0]
    commits = await store.commits_touching(run.run_id, after=parted.since, upto=upto, keys=keys)
    so_far = await asyncio.to_thread(_laid_over, before, parted, commits)
    if keys is None:
        return so_far
    # Of other keys, the newest branch's are all that there are.
    tip = await store.checkpoint(run.run_id, parted.tip)
    state = {key: value for key, value in so_far.state.items() if key in keys}
    state |= {key: value for key, value in tip.state.items() if key not in keys}
    writers = {**tip.writers, **{key: so_far.writers[key] for key in keys if key in so_far.writers}}
    return _SoFar(state, writers, so_far.conflicts)


async def _keys_beside(store: Store, run: RunRecord, parted: Apart) -> set[str] | None:
    """Return the keys that other branches than the newest changed; None where they did much."""
    beside = sorted(parted.beside)
    if len(beside) > _FEW:
        return None
    changed = [await store.commit(run.run_id, number) for number in beside]
    keys = {op.key for commit in changed for op in commit.diff.ops}
    return keys if len(keys) <= _FEW else None


def _laid_over(before: Checkpoint, parted: Apart, commits: Sequence[CommitRecord]) -> _SoFar:
    diffs = {commit.number: commit.diff for commit in commits}
    # Who descends from whom is asked of all of them.
    laid = [_Laid(number, parents, diffs.get(number, EMPTY)) for number, parents in parted.commits]
    state, conflicts = state_so_far(before.state, laid)
    latest = {op.key: commit.number for commit in laid for op in commit.diff.ops}
    return _SoFar(state, {**before.writers, **latest}, tuple(dict.fromkeys(each.key for each in conflicts)))


@dataclass(frozen=True, slots=True)
class _Laid:
    """A commit as `state_so_far` takes it."""

    number: int
    parents: tuple[int, ...]
    diff: StateDiff


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
