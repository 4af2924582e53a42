"""A run's journal: events and log lines under one sequence without gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from heapq import merge
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, insert, select, update

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.journal import Entry
from sandgraph.model.run import LogLine, NodeRunKey
from sandgraph.model.state import Json
from sandgraph.store import tables
from sandgraph.store.columns import now, to_json
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import JournalRecord

#: A longer diff, as JSON, is not repeated in the journal.
MAX_DIFF_BYTES = 64 * 1024

#: Of a diff that is not repeated, as many of its keys are named as fit.
_MAX_KEYS_BYTES = 8 * 1024

_MAX_MESSAGE = 4_096

_MAX_INTEGER = 2**63 - 1

# Made once: making one takes longer than SQLite needs to run it.
_LAST = select(tables.run.c.last_seq, tables.run.c.lease).where(tables.run.c.id == bindparam("run_id"))
_INSERT_EVENTS = Prepared(insert(tables.event))
_INSERT_LOGS = Prepared(insert(tables.log_record))


def advance(
    connection: Connection, run_id: str, records: int, changes: Mapping[str, object], lease: int | None = None
) -> int | None:
    """Take the next numbers of a run's sequence, and change its row with them.

    Returns:
        The last number taken, or None where nothing was: the run has ended.

    Raises:
        NotFound: There is no such run.
        Conflict: The lease is the run's no more.
    """
    parameters = {f"new_{name}": value for name, value in changes.items()}
    parameters |= {"key_id": run_id, "records": records}
    if lease is not None:
        parameters["key_lease"] = lease
    last = _advance_statement(tuple(changes), is_leased=lease is not None).scalar(connection, parameters)
    if last is None:
        last_number(connection, run_id, lease)
        return None
    return int(last)


@cache
def _advance_statement(columns: tuple[str, ...], *, is_leased: bool) -> Prepared:
    run = tables.run.c
    changes: dict[str, Any] = {name: bindparam(f"new_{name}", type_=tables.run.c[name].type) for name in columns}
    if "started_at" in changes:
        # The first time: a run may begin to run again.
        changes["started_at"] = func.coalesce(run.started_at, changes["started_at"])
    statement = update(tables.run).where(run.id == bindparam("key_id"), run.finished_at.is_(None))
    if is_leased:
        statement = statement.where(run.lease == bindparam("key_lease"))
    changes["last_seq"] = run.last_seq + bindparam("records")
    return Prepared(statement.values(changes).returning(run.last_seq))


def last_number(connection: Connection, run_id: str, lease: int | None = None) -> int:
    """Return the number of the last record of a run.

    Raises:
        NotFound: There is no such run.
        Conflict: The lease is the run's no more.
    """
    row = connection.execute(_LAST, {"run_id": run_id}).first()
    if row is None:
        raise NotFound("run", run_id)
    if lease not in {None, row.lease}:
        raise Conflict(f"Somebody else works on the run {run_id}: lease {lease} is over.", code="lease_lost")
    return int(row.last_seq)


def insert_events(connection: Connection, run_id: str, first_seq: int, events: Sequence[Entry], ts: datetime) -> None:
    """Store events, numbered from ``first_seq``."""
    rows = [_event_row(run_id, seq, entry, ts) for seq, entry in enumerate(events, first_seq)]
    if rows:
        _INSERT_EVENTS.run(connection, rows)


def append_event(connection: Connection, run_id: str, entry: Entry, changes: Mapping[str, object]) -> None:
    """Store an event of a run that has not ended, and change the run's row with it."""
    last = advance(connection, run_id, 1, changes)
    if last is not None:
        insert_events(connection, run_id, last, [entry], now())


def append_logs(
    connection: Connection,
    run_id: str,
    key: NodeRunKey,
    attempt: int,
    lines: Sequence[LogLine],
    lease: int | None = None,
) -> int:
    """Store log lines, unless the run has ended, and return the number of its last record.

    Raises:
        NotFound: There is no such run.
        Conflict: The lease is the run's no more.
    """
    last = advance(connection, run_id, len(lines), {}, lease) if lines else None
    if last is None:
        return last_number(connection, run_id, lease)
    ts = now()
    rows = [
        {
            "run_id": run_id,
            "seq": seq,
            "ts": ts,
            "scope": key.scope,
            "node": key.node,
            "iteration": key.iteration,
            "attempt": attempt,
            "stream": line.stream,
            "elapsed_s": line.elapsed_s,
            "text": line.text,
            "is_cut": line.is_cut,
        }
        for seq, line in enumerate(lines, last - len(lines) + 1)
    ]
    _INSERT_LOGS.run(connection, rows)
    return last


def read(connection: Connection, run_id: str, after: int, limit: int) -> list[JournalRecord]:
    """Return the records that follow number ``after``, at most ``limit``."""
    after = min(after, _MAX_INTEGER - limit)
    events = map(_of_event, connection.execute(events_query(run_id, after, limit)))
    logs = map(_of_log, connection.execute(logs_query(run_id, after, limit)))
    found = list(merge(events, logs, key=lambda record: record.seq))
    if not found:
        last_number(connection, run_id)
    return found


def events_query(run_id: str, after: int, limit: int) -> Select[Any]:
    """Return the statement of the events among the ``limit`` records that follow ``after``.

    As the sequence has no gaps, those are the ones up to ``after + limit``, whatever their kind.
    """
    event, commit = tables.event.c, tables.state_commit.c
    return (
        select(tables.event, commit.diff)
        .outerjoin_from(
            tables.event,
            tables.state_commit,
            and_(commit.run_id == event.run_id, commit.number == event.diff_of),
        )
        .where(event.run_id == run_id, event.seq > after, event.seq <= after + limit)
        .order_by(event.seq)
    )


def logs_query(run_id: str, after: int, limit: int) -> Select[Any]:
    """Return the statement of the log lines among the ``limit`` records that follow ``after``."""
    log = tables.log_record.c
    return (
        select(tables.log_record)
        .where(log.run_id == run_id, log.seq > after, log.seq <= after + limit)
        .order_by(log.seq)
    )


def _event_row(run_id: str, seq: int, entry: Entry, ts: datetime) -> dict[str, object]:
    data, diff_of = entry.data, None
    if "diff" in data:
        data, diff_of = _without_diff(data)
    return {
        "run_id": run_id,
        "seq": seq,
        "ts": ts,
        "type": entry.type,
        "status": str(entry.status),
        "message": entry.message if len(entry.message) <= _MAX_MESSAGE else entry.message[: _MAX_MESSAGE - 1] + "…",
        "scope": entry.key.scope if entry.key else "",
        "node": entry.key.node if entry.key else None,
        "iteration": entry.key.iteration if entry.key else None,
        "attempt": entry.attempt,
        "diff_of": diff_of,
        "data": data or None,
    }


def _without_diff(data: dict[str, Json]) -> tuple[dict[str, Json], int | None]:
    """Return what an event keeps of a commit, and the number of the commit that a reader takes the diff from.

    The diff is stored in the commit already.
    """
    kept = {name: value for name, value in data.items() if name != "diff"}
    diff, number = data["diff"], data["commit"]
    if not isinstance(diff, list) or not isinstance(number, int):
        raise TypeError("the entry of a commit has its number and its diff")
    if len(to_json(diff)) <= MAX_DIFF_BYTES:
        return kept, number
    keys: list[Json] = []
    left = _MAX_KEYS_BYTES
    for op in diff:
        left -= len(to_json(op["key"])) if isinstance(op, dict) else 0
        if left < 0:
            break
        keys.append(op["key"] if isinstance(op, dict) else None)
    return {**kept, "keys": keys, "truncated": True}, None


def _of_event(row: Row[Any]) -> JournalRecord:
    data = row.data or {}
    if row.diff_of is not None:
        data["diff"] = row.diff
    return JournalRecord(
        row.seq,
        row.ts,
        "event",
        row.type,
        row.node,
        row.iteration,
        row.attempt,
        row.status,
        row.message,
        data,
        row.scope,
    )


def _of_log(row: Row[Any]) -> JournalRecord:
    data: dict[str, Json] = {"elapsed_s": row.elapsed_s, "cut": row.is_cut}
    return JournalRecord(
        row.seq, row.ts, "log", row.stream, row.node, row.iteration, row.attempt, "running", row.text, data, row.scope
    )
