"""Commits and the states after them: each is a commit, laid over its trunk's, and now and then one is kept whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, Select, and_, bindparam, exists, insert, select

from sandgraph.errors import NotFound
from sandgraph.model.commands import Command, RecordCommit, StartAttempt
from sandgraph.model.history import state_at, writers_at
from sandgraph.model.state import Parents, StateDiff, View, past
from sandgraph.store import tables
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import Checkpoint

#: Commits along a trunk from one whole state to the next: no state is more than that many diffs from one.
EVERY = 64

_COMMIT = tables.state_commit.c
_KEPT = tables.checkpoint.c
_MAX = 2**63 - 1

_NOTHING = View.initial({})

_INSERT_COMMITS = Prepared(insert(tables.state_commit))
_INSERT_CHECKPOINTS = Prepared(insert(tables.checkpoint))

Values = dict[str, object]


def commit_row(command: RecordCommit, ts: datetime) -> Values:
    """Return the row of a commit."""
    merged: Values = {"merged": None, "merged_writers": None}
    if command.merged and command.before is not None:
        merged = {
            "merged": command.merged.to_json(),
            "merged_writers": command.before.merged_writers() or None,
        }
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


def without_views(command: Command) -> Command:
    """Return a command without what is not stored of it: thousands of views are more than the memory."""
    if isinstance(command, StartAttempt):
        return replace(command, view=_NOTHING)
    if not isinstance(command, RecordCommit) or command.before is None:
        return command
    merged = {op.key for op in command.merged.ops if op.key in command.before.state}
    state = {key: command.before.state[key] for key in merged}
    writers = {key: command.before.writers[key] for key in merged}
    before = View(command.before.heads, state, writers, merged=frozenset(merged))
    return replace(command, before=before, after=command.after if rows(command) else None)


def write(connection: Connection, run_id: str, commits: Sequence[Values], kept: Sequence[Values]) -> None:
    """Store rows that `commit_row` and `rows` made."""
    if commits:
        _INSERT_COMMITS.run(connection, [{"run_id": run_id, **values} for values in commits])
    if kept:
        _INSERT_CHECKPOINTS.run(connection, [{"run_id": run_id, **values} for values in kept])


def read(connection: Connection, run_id: str, at: int) -> Checkpoint:
    """Return the state after a commit.

    Raises:
        NotFound: There is no such run, or it has no such commit.
    """
    initial = connection.scalar(_INITIAL, {"run_id": run_id})
    if initial is None:
        raise NotFound("run", run_id)
    chain = sorted(connection.execute(_CHAIN, {"run_id": run_id, "at": at}), key=_number) if 0 < at <= _MAX else []
    if at and not chain:
        raise NotFound("checkpoint", str(at))
    base = Checkpoint(initial, dict.fromkeys(initial, 0))
    if chain and chain[0].state is not None:
        base, chain = Checkpoint(chain[0].state, chain[0].writers), chain[1:]
    elif chain and chain[0].trunk is None:
        base, chain = _after(base, _ancestors(connection, run_id, chain[0].number)), chain[1:]
    return _after(base, [_Laid.of(row, row.trunk) for row in chain])


@dataclass(frozen=True, slots=True)
class _Laid:
    """A commit as `model.history` takes it."""

    number: int
    parents: tuple[int, ...]
    diff: StateDiff
    trunk: int
    merged: StateDiff
    merged_writers: Mapping[str, int]

    @classmethod
    def of(cls, row: Row[Any], trunk: int) -> _Laid:
        diff, merged = StateDiff.from_json(row.diff), StateDiff.from_json(row.merged or [])
        return cls(row.number, tuple(row.parents), diff, trunk, merged, row.merged_writers or {})


def _after(base: Checkpoint, commits: Sequence[_Laid]) -> Checkpoint:
    return Checkpoint(state_at(base.state, commits), writers_at(base.writers, commits))


def _ancestors(connection: Connection, run_id: str, number: int) -> list[_Laid]:
    """Return a commit of an earlier release, which knew no trunks, and all its ancestors, one laid over the other."""
    query = select(tables.state_commit).where(_COMMIT.run_id == run_id, _COMMIT.number <= number)
    found = connection.execute(query.order_by(_COMMIT.number)).all()
    parents: Parents = {0: (), **{row.number: tuple(row.parents) for row in found}}
    seen = past(parents, [number])
    # Branches that met had no key in conflict, so among ancestors whoever set a key last saw all that set it before.
    rows = [row for row in found if row.number in seen]
    return [_Laid.of(row, before) for before, row in zip([0, *map(_number, rows)], rows, strict=False)]


def _number(row: Row[Any]) -> int:
    return int(row.number)


def _chain() -> Select[Any]:
    """Return the statement of a commit and those below it along the trunk, down to one whose state is known whole.

    That is one with a checkpoint, or one over the initial state, or one of an earlier release.
    """
    run_id: BindParameter[str] = bindparam("run_id")
    tip = select(_COMMIT.number, _COMMIT.trunk).where(_COMMIT.run_id == run_id, _COMMIT.number == bindparam("at"))
    chain = tip.cte("chain", recursive=True)
    is_kept = exists().where(_KEPT.run_id == run_id, _KEPT.number == chain.c.number)
    below = (
        select(_COMMIT.number, _COMMIT.trunk)
        .join_from(chain, tables.state_commit, and_(_COMMIT.run_id == run_id, _COMMIT.number == chain.c.trunk))
        .where(~is_kept)
    )
    chain = chain.union_all(below)
    return (
        select(tables.state_commit, _KEPT.state, _KEPT.writers)
        .join_from(chain, tables.state_commit, and_(_COMMIT.run_id == run_id, _COMMIT.number == chain.c.number))
        .outerjoin(tables.checkpoint, and_(_KEPT.run_id == run_id, _KEPT.number == chain.c.number))
    )


_CHAIN = _chain()
_INITIAL = select(tables.run_state.c.state).where(
    tables.run_state.c.run_id == bindparam("run_id"), tables.run_state.c.kind == "initial"
)
