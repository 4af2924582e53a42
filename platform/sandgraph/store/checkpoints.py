"""Commits and the states after them: each is a commit, laid over its trunk's, and now and then one is kept whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, insert, literal, select

from sandgraph.errors import NotFound
from sandgraph.model.commands import RecordCommit
from sandgraph.model.state import Json, Parents, SetKey, StateDiff, past
from sandgraph.store import tables
from sandgraph.store.records import Checkpoint

#: Commits along a trunk from one whole state to the next: no state is more than that many diffs from one.
EVERY = 64

_COMMIT = tables.state_commit.c
_KEPT = tables.checkpoint.c
_MAX_INTEGER = 2**63 - 1

# Made once: making one takes longer than SQLite needs to run it.
_INSERT_COMMITS = insert(tables.state_commit)
_INSERT_CHECKPOINTS = insert(tables.checkpoint)

Values = dict[str, object]


def commit_row(command: RecordCommit, ts: datetime) -> Values:
    """Return the row of a commit."""
    merged: Values = {"merged": None, "merged_writers": None}
    if command.merged and command.before is not None:
        writers = command.before.writers
        known = {op.key: writers[op.key] for op in command.merged.ops if isinstance(op, SetKey) and op.key in writers}
        merged = {"merged": command.merged.to_json(), "merged_writers": known or None}
    return {
        "number": command.number,
        # What lies between it and its trunk is not known without what the node run saw.
        "trunk": command.trunk if command.before is not None else None,
        "parents": list(command.parents),
        "scope": command.key.scope,
        "node": command.key.node,
        "iteration": command.key.iteration,
        "attempt": command.attempt,
        "diff": command.diff.to_json(),
        **merged,
        "created_at": ts,
    }


def rows(command: RecordCommit) -> list[Values]:
    """Return the row of the whole state after a commit, where it is to be kept."""
    after = command.after
    if after is None or after.depth % EVERY:
        return []
    writers = {key: number for key, number in after.writers.items() if key in after.state}
    return [{"number": command.number, "state": dict(after.state), "writers": writers}]


def write(connection: Connection, run_id: str, commits: Sequence[Values], kept: Sequence[Values]) -> None:
    """Store rows that `commit_row` and `rows` made."""
    if commits:
        connection.execute(_INSERT_COMMITS, [{"run_id": run_id, **values} for values in commits])
    if kept:
        connection.execute(_INSERT_CHECKPOINTS, [{"run_id": run_id, **values} for values in kept])


def read(connection: Connection, run_id: str, at: int) -> Checkpoint:
    """Return the state after a commit.

    Raises:
        NotFound: There is no such run, or it has no such commit.
    """
    state = select(tables.run_state.c.state).where(tables.run_state.c.run_id == run_id)
    initial = connection.scalar(state.where(tables.run_state.c.kind == "initial"))
    if initial is None:
        raise NotFound("run", run_id)
    if not 0 <= at <= _MAX_INTEGER:
        raise NotFound("checkpoint", str(at))
    chain = sorted(connection.execute(chain_query(run_id, at)), key=lambda row: row.number)
    if at and not chain:
        raise NotFound("checkpoint", str(at))
    known = dict(initial)
    writers = dict.fromkeys(known, 0)
    if chain and chain[0].state is not None:
        known, writers = chain[0].state, chain[0].writers
        chain = chain[1:]
    elif chain and chain[0].trunk is None:
        _replay(known, writers, _before_trunks(connection, run_id, chain[0].number))
        chain = chain[1:]
    _replay(known, writers, chain)
    return Checkpoint(known, writers)


def chain_query(run_id: str, at: int) -> Select[Any]:
    """Return the statement of a commit and those below it along the trunk, down to one whose state is known whole.

    That is one with a checkpoint, or with none below it but the initial state, or one of an earlier release.
    """
    tip = select(_COMMIT.number, _COMMIT.trunk).where(_COMMIT.run_id == run_id, _COMMIT.number == at)
    chain = tip.cte("chain", recursive=True)
    is_kept = exists().where(_KEPT.run_id == run_id, _KEPT.number == chain.c.number)
    below = (
        select(_COMMIT.number, _COMMIT.trunk)
        .join_from(chain, tables.state_commit, and_(_COMMIT.run_id == literal(run_id), _COMMIT.number == chain.c.trunk))
        .where(~is_kept)
    )
    chain = chain.union_all(below)
    return (
        select(
            _COMMIT.number,
            _COMMIT.trunk,
            _COMMIT.diff,
            _COMMIT.merged,
            _COMMIT.merged_writers,
            _KEPT.state,
            _KEPT.writers,
        )
        .join_from(chain, tables.state_commit, and_(_COMMIT.run_id == run_id, _COMMIT.number == chain.c.number))
        .outerjoin(tables.checkpoint, and_(_KEPT.run_id == run_id, _KEPT.number == chain.c.number))
    )


def _before_trunks(connection: Connection, run_id: str, number: int) -> list[Row[Any]]:
    """Return a commit and its ancestors in the order of their numbers, of a run whose commits have no trunk."""
    query = select(tables.state_commit).where(_COMMIT.run_id == run_id, _COMMIT.number <= number)
    found = connection.execute(query.order_by(_COMMIT.number)).all()
    parents: Parents = {0: (), **{row.number: tuple(row.parents) for row in found}}
    seen = past(parents, [number])
    # Branches that met had no key in conflict, so among ancestors whoever set a key last saw all that set it before.
    return [row for row in found if row.number in seen]


def _replay(state: dict[str, Json], writers: dict[str, int], commits: Sequence[Row[Any]]) -> None:
    for row in commits:
        for diff, authors in ((row.merged, row.merged_writers or {}), (row.diff, {})):
            ops = StateDiff.from_json(diff or [])
            ops.apply_to(state)
            for op in ops.ops:
                if op.key in state:
                    writers[op.key] = authors.get(op.key, row.number)
                else:
                    writers.pop(op.key, None)
