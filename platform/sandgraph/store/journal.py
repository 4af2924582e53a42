"""A run's journal: events and log lines under one sequence without gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from heapq import merge
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.journal import Entry
from sandgraph.model.run import LogLine, NodeRunKey
from sandgraph.model.state import Json
from sandgraph.store import packs, tables
from sandgraph.store.columns import now
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import JournalRecord
from sandgraph.store.traces import traced

#: What any record counts as stored, beside its text.
RECORD_BYTES = 64

#: Commits that one statement names.
_NAMED_AT_ONCE = 500

_MAX_INTEGER = 2**63 - 1

# Made once: making one takes longer than SQLite needs to run it.
_LAST = select(tables.run.c.last_seq, tables.run.c.lease).where(tables.run.c.id == bindparam("run_id"))
_INSERT_EVENTS = Prepared(insert(tables.event))
_INSERT_LOGS = Prepared(insert(tables.log_record))


def advance(
    connection: Connection,
    run_id: str,
    records: int,
    changes: Mapping[str, object],
    lease: int | None = None,
    *,
    stored: int = 0,
) -> int | None:
    """Take the next numbers of a run's sequence, and change its row with them.

    Args:
        connection: In a transaction.
        run_id: The run.
        records: How many numbers.
        changes: Of its row.
        lease: Of whoever works on it.
        stored: Bytes that are stored with the records, beside what any record takes.

    Returns:
        The last number taken, or None where nothing was: the run has ended.

    Raises:
        NotFound: There is no such run.
        Conflict: The lease is the run's no more.
    """
    taken = {"id": run_id, "records": records, "stored": stored + records * RECORD_BYTES, "lease": lease}
    last = _advance_statement(tuple(changes), is_leased=lease is not None).scalar(connection, {**changes, **taken})
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
    changes["stored_bytes"] = run.stored_bytes + bindparam("stored")
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
    rows = [
        {"run_id": run_id, "seq": seq, "ts": ts, "entries": packed} for seq, packed in packs.packs(first_seq, events)
    ]
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
    size = sum(len(line.text) for line in lines)
    last = advance(connection, run_id, len(lines), {}, lease, stored=size) if lines else None
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
    after = min(after, _MAX_INTEGER - limit - packs.MOST)
    events = _events(connection, run_id, after, limit)
    logs = map(_of_log, connection.execute(logs_query(run_id, after, limit)))
    found = list(merge(events, logs, key=lambda record: record.seq))
    if not found:
        last_number(connection, run_id)
    return traced(connection, run_id, found)


def _events(connection: Connection, run_id: str, after: int, limit: int) -> list[JournalRecord]:
    """Return the events among the ``limit`` records that follow ``after``.

    As the sequence has no gaps, those are the ones up to ``after + limit``, whatever their kind.
    """
    found = [
        record
        for row in connection.execute(events_query(run_id, after, limit))
        for record in packs.records(row.seq, row.ts, row.entries)
        if after < record.seq <= after + limit
    ]
    told = {record.seq: number for record in found if (number := packs.diff_of(record)) is not None}
    diffs = _diffs(connection, run_id, sorted(told.values()))
    return [packs.with_diff(record, diffs[told[record.seq]]) if record.seq in told else record for record in found]


def events_query(run_id: str, after: int, limit: int) -> Select[Any]:
    """Return the statement of the packs that have events among the ``limit`` records that follow ``after``."""
    event = tables.event.c
    query = select(event.seq, event.ts, event.entries)
    # Whose last number is larger than the page's by as many as a pack may have begins after the page.
    most = after + limit + packs.MOST
    return query.where(event.run_id == run_id, event.seq > after, event.seq < most).order_by(event.seq)


def _diffs(connection: Connection, run_id: str, numbers: Sequence[int]) -> dict[int, Json]:
    found: dict[int, Json] = {}
    for first in range(0, len(numbers), _NAMED_AT_ONCE):
        query = diffs_query(run_id, numbers[first : first + _NAMED_AT_ONCE])
        found |= {row.number: row.diff for row in connection.execute(query)}
    return found


def diffs_query(run_id: str, numbers: Sequence[int]) -> Select[Any]:
    """Return the statement of the diffs of some commits."""
    commit = tables.state_commit.c
    return select(commit.number, commit.diff).where(commit.run_id == run_id, commit.number.in_(numbers))


def logs_query(run_id: str, after: int, limit: int) -> Select[Any]:
    """Return the statement of the log lines among the ``limit`` records that follow ``after``."""
    log = tables.log_record.c
    return (
        select(tables.log_record)
        .where(log.run_id == run_id, log.seq > after, log.seq <= after + limit)
        .order_by(log.seq)
    )


def _of_log(row: Row[Any]) -> JournalRecord:
    data: dict[str, Json] = {"elapsed_s": row.elapsed_s, "cut": row.is_cut}
    return JournalRecord(
        row.seq, row.ts, "log", row.stream, row.node, row.iteration, row.attempt, "running", row.text, data, row.scope
    )
