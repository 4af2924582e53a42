"""What the scheduler was told of each run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, bindparam, insert, select
from sqlalchemy.dialects import postgresql

from sandgraph.errors import Conflict
from sandgraph.model.commands import Command, RecordCommit
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import Json, StateDiff
from sandgraph.store import journal, tables
from sandgraph.store.columns import now
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import RunEvent, StoredEvent

_ROW = tables.run_event.c
_COMMIT = tables.state_commit.c

_INSERT = Prepared(insert(tables.run_event))
# PostgreSQL's words for it are SQLite's too.
_INSERT_NEW = Prepared(postgresql.insert(tables.run_event).on_conflict_do_nothing(index_elements=["run_id", "number"]))
_DOCUMENT = select(_ROW.document).where(_ROW.run_id == bindparam("run_id"), _ROW.number == bindparam("number"))


def add_new(
    connection: Connection,
    run_id: str,
    told: Sequence[RunEvent],
    commands: Iterable[Command],
    ts: datetime,
    lease: int | None = None,
) -> int:
    """Store events that follow one another, and return how many of them are known.

    The first of them may be: where a step was stored, and nobody heard of it.

    Raises:
        Conflict: The run was told something else under one of the numbers: somebody else works on it. Or the lease of
            an event that is known is over.
    """
    known = len(told) - _INSERT_NEW.run(connection, _rows(run_id, told, commands, ts))
    if known:
        journal.last_number(connection, run_id, lease)
    for each in told[:known]:
        if connection.scalar(_DOCUMENT, {"run_id": run_id, "number": each.number}) != dict(each.document):
            message = f"The run {run_id} was told something else as its event {each.number}."
            raise Conflict(message, code="event_conflict")
    return known


def add_all(connection: Connection, run_id: str, told: Sequence[RunEvent], commands: Iterable[Command]) -> None:
    """Store events that are new, with the commits that they made, which are among the commands."""
    _INSERT.run(connection, _rows(run_id, told, commands, now()))


def _rows(run_id: str, told: Sequence[RunEvent], commands: Iterable[Command], ts: datetime) -> list[dict[str, object]]:
    made: dict[object, int] = {
        (command.key, command.attempt): command.number for command in commands if isinstance(command, RecordCommit)
    }
    return [
        {
            "run_id": run_id,
            "number": each.number,
            "document": each.document,
            "diff_of": made.get(_ended(each.document)),
            "created_at": ts,
        }
        for each in told
    ]


def _ended(document: Mapping[str, Json]) -> tuple[NodeRunKey, int] | None:
    """Return the attempt that an event is about: other commits than its own may have followed from the event."""
    match document:
        case {"node": str(node), "iteration": int(iteration), "attempt": int(attempt)}:
            return NodeRunKey(node, iteration, str(document.get("scope", ""))), attempt
    return None


def read(connection: Connection, run_id: str, after: int, limit: int) -> list[StoredEvent]:
    """Return the events of a run that follow number ``after``, at most ``limit``."""
    query = (
        select(tables.run_event, _COMMIT.diff)
        .outerjoin_from(
            tables.run_event,
            tables.state_commit,
            and_(_COMMIT.run_id == _ROW.run_id, _COMMIT.number == _ROW.diff_of),
        )
        .where(_ROW.run_id == run_id, _ROW.number > after)
        .order_by(_ROW.number)
        .limit(limit)
    )
    return [
        StoredEvent(row.number, row.document, row.diff_of, StateDiff.from_json(row.diff or []), row.created_at)
        for row in connection.execute(query)
    ]
