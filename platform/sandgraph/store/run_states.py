"""Where a run stands, and its state: each read as of one moment, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from sandgraph.errors import NotFound
from sandgraph.model.commands import EMPTY
from sandgraph.model.history import Apart, apart, state_so_far
from sandgraph.model.state import Json, StateDiff
from sandgraph.store import checkpoints, commits, node_runs, runs
from sandgraph.store.records import (
    Checkpoint,
    CommitRecord,
    NodeRunRecord,
    RunRecord,
    RunState,
    RunSummary,
    Standing,
    Writer,
)

#: So many commits, or keys, of branches that have not met the newest one are looked for among its own.
_FEW = 32


def standing(connection: Connection, run_id: str, tenant: str | None, after: int, limit: int) -> Standing:
    """Return where a run stands, with the node runs that began after a record of the journal, at most ``limit``.

    Raises:
        NotFound: The tenant, or without one anybody, has none of that id.
    """
    run = runs.summary(connection, run_id)
    _check(run, tenant)
    found = node_runs.page(connection, run_id, after, limit + 1)
    shown, has_more = found[:limit], len(found) > limit
    if run.is_final:
        in_progress: Sequence[NodeRunRecord] = ()
    elif after or has_more:
        in_progress = node_runs.in_progress(connection, run_id)
    else:
        in_progress = [each for each in shown if each.status in node_runs.IN_PROGRESS]
    return Standing(run, shown, has_more, in_progress)


def state(connection: Connection, run_id: str, tenant: str | None, at: int | None) -> tuple[RunSummary, RunState]:
    """Return a run, and the state of checkpoint ``at``, or without it the final state, or all branches' so far, merged.

    Raises:
        NotFound: The tenant, or without one anybody, has none of that id, or it has no such checkpoint.
    """
    if at is not None:
        summary = runs.summary(connection, run_id)
        _check(summary, tenant)
        found = checkpoints.read(connection, run_id, at)
        return summary, RunState(found.state, at, (), _authors(connection, run_id, found.state, found.writers))
    run = runs.get(connection, run_id)
    _check(run, tenant)
    if run.final_state is not None:
        last = checkpoints.read(connection, run_id, run.last_commit)
        if last.state == run.final_state:
            writers = _authors(connection, run_id, last.state, last.writers)
            return run, RunState(run.final_state, run.last_commit, (), writers)
    so_far = _so_far(connection, run)
    # A run that ended has no conflicts left, and no other state than its last one.
    is_final = run.final_state is not None
    data = so_far.state if run.final_state is None else run.final_state
    writers = _authors(connection, run_id, data, so_far.writers)
    return run, RunState(data, run.last_commit, () if is_final else so_far.conflicts, writers)


def _check(run: RunSummary, tenant: str | None) -> None:
    if tenant not in {None, run.tenant}:
        raise NotFound("run", run.run_id)


@dataclass(frozen=True, slots=True)
class _SoFar:
    """A state of all branches together; ``writers`` has the number of the commit that changed each key last."""

    state: Mapping[str, Json]
    writers: Mapping[str, int]
    conflicts: tuple[str, ...] = ()


def _so_far(connection: Connection, run: RunRecord) -> _SoFar:
    """Return what all branches of a run did, at a cost that depends on how far they are apart, and not on its length.

    What met is as it was merged, but for keys that several branches changed that have not met. What goes on inside a
    subgraph is seen outside once it ends.
    """
    parted = apart(commits.parents(connection, run.run_id, run.last_commit))
    before = checkpoints.read(connection, run.run_id, parted.since)
    if not parted.commits:
        return _SoFar(before.state, before.writers)
    keys = _keys_beside(connection, run, parted)
    upto = parted.commits[-1][0]
    so_far = _laid_over(before, parted, commits.touching(connection, run.run_id, parted.since, upto, keys))
    if keys is None:
        return so_far
    # Of other keys, the newest branch's are all that there are.
    tip = checkpoints.read(connection, run.run_id, parted.tip)
    state = {key: value for key, value in so_far.state.items() if key in keys}
    state |= {key: value for key, value in tip.state.items() if key not in keys}
    writers = {**tip.writers, **{key: so_far.writers[key] for key in keys if key in so_far.writers}}
    return _SoFar(state, writers, so_far.conflicts)


def _keys_beside(connection: Connection, run: RunRecord, parted: Apart) -> set[str] | None:
    """Return the keys that other branches than the newest changed; None where they did much."""
    beside = sorted(parted.beside)
    if len(beside) > _FEW:
        return None
    changed = [commits.get(connection, run.run_id, number) for number in beside]
    keys = {op.key for commit in changed for op in commit.diff.ops}
    return keys if len(keys) <= _FEW else None


def _laid_over(before: Checkpoint, parted: Apart, changed: Sequence[CommitRecord]) -> _SoFar:
    diffs = {commit.number: commit.diff for commit in changed}
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


def _authors(
    connection: Connection, run_id: str, state: Iterable[str], numbers: Mapping[str, int]
) -> dict[str, Writer]:
    wanted = {key: numbers.get(key, 0) for key in state}
    made = commits.authors(connection, run_id, set(wanted.values()) - {0})
    writers = {0: Writer(0), **{number: Writer(number, key, attempt) for number, (key, attempt) in made.items()}}
    return {key: writers[number] for key, number in wanted.items()}
