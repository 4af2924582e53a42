"""Where the output of attempts was cut at its limit: what they printed after that is nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, literal_column, select

from sandgraph.model.log_filter import LogFilter
from sandgraph.store import journal, tables
from sandgraph.store.log_numbers import first_since, line_after, line_before
from sandgraph.store.records import JournalRecord

#: Of one page; more attempts than that do not end within one.
_MOST = 200

#: Events between two lines among which the one of the attempt's end is looked for.
_MOST_EVENTS = 500

_TICK = timedelta(microseconds=1)

# As the index has it, which is of such attempts alone.
_STATUS: ColumnElement[str] = literal_column("'output_limit'")


def truncations(connection: Connection, run_id: str, wanted: LogFilter, after: int, upto: int) -> list[JournalRecord]:
    """Return the events of the attempts that ended so, of those with numbers above ``after`` and up to ``upto``."""
    if upto <= after:
        return []
    tried = tables.attempt.c
    query = select(tried.scope, tried.node, tried.iteration, tried.attempt, tried.finished_at)
    query = query.where(tried.run_id == run_id, tried.status == _STATUS)
    for name in ("scope", "node", "iteration", "attempt"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(tried[name] == value)
    found = connection.execute(query.order_by(tried.finished_at).limit(10_000)).all()
    if not found:
        return []
    before, behind = line_before(connection, run_id, after + 1), line_after(connection, run_id, upto)
    ends = {
        (row.scope, row.node, row.iteration, row.attempt): row.finished_at
        for row in found
        if (before is None or row.finished_at >= before[1]) and (behind is None or row.finished_at <= behind[1])
    }
    told = [each for at in sorted(set(ends.values()))[:_MOST] for each in _events(connection, run_id, at, upto)]
    return [each for each in told if (each.scope, each.node, each.iteration, each.attempt) in ends and each.seq > after]


def _events(connection: Connection, run_id: str, at: datetime, upto: int) -> Iterator[JournalRecord]:
    """Yield the events of attempts that were cut then: they are among those between two lines."""
    behind = first_since(connection, run_id, upto, at + _TICK)
    line = line_before(connection, run_id, behind)
    first = line[0] if line else 0
    for record in journal.read(connection, run_id, first, min(behind - first, _MOST_EVENTS, upto - first)):
        if record.is_truncation and record.ts == at:
            yield record
