"""Of which trace a run's records are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, bindparam, select

from sandgraph.model.run import NodeRunKey
from sandgraph.store import tables
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import JournalRecord
from sandgraph.telemetry.trace import SpanRef, attempt_span, run_span

# Made once: making one takes longer than SQLite needs to run it.
_TRACEPARENT = Prepared(select(tables.run.c.traceparent).where(tables.run.c.id == bindparam("run_id")))


def span_of(connection: Connection, run_id: str) -> SpanRef | None:
    """Return a run's span; None where it is of no trace, or gone."""
    return run_span(_TRACEPARENT.scalar(connection, {"run_id": run_id}), run_id)


def traced(connection: Connection, run_id: str, records: Iterable[JournalRecord]) -> list[JournalRecord]:
    """Return a run's records, each with its span, where the run has a trace."""
    found = list(records)
    span = span_of(connection, run_id) if found else None
    return found if span is None else [replace(each, trace=_span_of(each, run_id, span)) for each in found]


def _span_of(record: JournalRecord, run_id: str, run: SpanRef) -> SpanRef:
    if record.attempt is None or record.node is None:
        return run
    key = NodeRunKey(record.node, record.iteration or 1, record.scope)
    return attempt_span(run, run_id, key.path, record.attempt)
