"""Node runs and their attempts as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, select

from sandgraph.model.run import AttemptStatus, Failure, NodeRunStatus, Usage
from sandgraph.store import journal, tables
from sandgraph.store.records import AttemptRecord, NodeRunRecord, Reads

_DONE = tables.node_run.c
_TRIED = tables.attempt.c
_MAX_INTEGER = 2**63 - 1

#: What a node run is that has begun and not ended.
IN_PROGRESS = frozenset({NodeRunStatus.RUNNING, NodeRunStatus.WAITING, NodeRunStatus.RETRYING})

_IS_OF = and_(
    _TRIED.run_id == _DONE.run_id,
    _TRIED.scope == _DONE.scope,
    _TRIED.node == _DONE.node,
    _TRIED.iteration == _DONE.iteration,
)


# Made once: making one takes longer than SQLite needs to run it.
_LATER = (
    select(tables.node_run)
    .where(_DONE.run_id == bindparam("run_id"), _DONE.first_seq > bindparam("after"))
    .order_by(_DONE.first_seq)
    .limit(bindparam("limit"))
)
_TRIES = (
    select(tables.attempt)
    .join_from(tables.node_run, tables.attempt, _IS_OF)
    .where(
        _DONE.run_id == bindparam("run_id"), _DONE.first_seq > bindparam("after"), _DONE.first_seq <= bindparam("last")
    )
)
_UNENDED = _DONE.run_id == bindparam("run_id"), _DONE.status.in_([status.value for status in IN_PROGRESS])
_RUNNING = select(tables.node_run).where(*_UNENDED).order_by(_DONE.first_seq)
_RUNNING_TRIES = select(tables.attempt).join_from(tables.node_run, tables.attempt, _IS_OF).where(*_UNENDED)


def read(connection: Connection, run_id: str) -> list[NodeRunRecord]:
    """Return a run's node runs in order of start."""
    journal.last_number(connection, run_id)
    return page(connection, run_id, 0, _MAX_INTEGER)


def page(connection: Connection, run_id: str, after: int, limit: int) -> list[NodeRunRecord]:
    """Return the node runs that began after a record of the journal, in order of start, at most ``limit``."""
    after = min(after, _MAX_INTEGER)
    rows = connection.execute(_LATER, {"run_id": run_id, "after": after, "limit": limit}).all()
    if not rows:
        return []
    tries = connection.execute(_TRIES, {"run_id": run_id, "after": after, "last": rows[-1].first_seq}).all()
    return _records(rows, tries)


def _records(rows: Sequence[Row[Any]], tries: Sequence[Row[Any]]) -> list[NodeRunRecord]:
    attempts = _attempts(tries)
    return [
        NodeRunRecord(
            row.node,
            row.iteration,
            NodeRunStatus(row.status),
            row.message,
            failure_of(row.failure),
            tuple(attempts.get((row.scope, row.node, row.iteration), ())),
            row.started_at,
            row.finished_at,
            row.scope,
            row.first_seq,
        )
        for row in rows
    ]


def in_progress(connection: Connection, run_id: str) -> list[NodeRunRecord]:
    """Return the node runs that have begun and not ended, in order of start.

    No index is kept for them, which each step of a run would have to write: to look at the rows of a run takes some
    milliseconds for 10,000 of them, and only those in progress are read.
    """
    rows = connection.execute(_RUNNING, {"run_id": run_id}).all()
    return _records(rows, connection.execute(_RUNNING_TRIES, {"run_id": run_id}).all() if rows else [])


def failure_of(document: dict[str, str] | None) -> Failure | None:
    """Make a failure from what is stored of it."""
    return Failure(**document) if document else None


def _attempts(rows: Sequence[Row[Any]]) -> dict[tuple[str, str, int], list[AttemptRecord]]:
    found: dict[tuple[str, str, int], list[AttemptRecord]] = {}
    for row in sorted(rows, key=lambda row: row.attempt):
        found.setdefault((row.scope, row.node, row.iteration), []).append(
            AttemptRecord(
                row.attempt,
                AttemptStatus(row.status),
                failure_of(row.failure),
                Usage(**row.usage) if row.usage else None,
                row.started_at,
                row.finished_at,
                Reads(tuple(row.reads["keys"]), row.reads["cut"]) if row.reads else None,
            )
        )
    return found
