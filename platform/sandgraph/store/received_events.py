"""Events that somebody sent a run, kept until the run is told them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.state import Json
from sandgraph.store import journal, tables
from sandgraph.store.columns import now, storable, to_json
from sandgraph.store.ids import new_id
from sandgraph.store.records import ReceivedEvent, RunEvent

_ROW = tables.received_event.c

# Made once: making one takes longer than SQLite needs to run it.
_UNTOLD = (
    select(tables.received_event).where(_ROW.run_id == bindparam("run_id"), _ROW.told.is_(None)).order_by(_ROW.number)
)
_MARK = (
    update(tables.received_event)
    .where(_ROW.run_id == bindparam("key_run_id"), _ROW.event_id == bindparam("key_event_id"))
    .values(told=bindparam("new_told"))
)


def receive(
    connection: Connection, run_id: str, name: str, payload: Json, event_id: str | None, limit: int
) -> tuple[ReceivedEvent, bool]:
    """Keep an event for a run, or return the one that has this id; tell whether it is new.

    A run that waits with nobody working on it is due at once.

    Raises:
        NotFound: There is no such run.
        Conflict: The id is another event's, the run has ended, or was sent as many as it may be.
    """
    run = tables.run.c
    found = connection.execute(select(run.finished_at, run.parked).where(run.id == run_id)).first()
    if found is None:
        raise NotFound("run", run_id)
    name = storable(name)
    known = _known(connection, run_id, event_id) if event_id is not None else None
    if known is not None:
        if (known.name, to_json(known.payload)) != (name, to_json(payload)):
            message = f"The event id {known.event_id!r} was used for another event of this run; choose a new one."
            raise Conflict(message, code="event_id_reused")
        return known, False
    if found.finished_at is not None:
        raise Conflict(f"The run {run_id} has ended: it takes no more events.", code="run_ended")
    last = connection.scalar(select(func.max(_ROW.number)).where(_ROW.run_id == run_id)) or 0
    if last >= limit:
        raise Conflict(f"The run {run_id} was sent {last} events; no more are allowed.", code="too_many_events")
    event_id = new_id("event") if event_id is None else storable(event_id)
    ts = now()
    received = ReceivedEvent(last + 1, event_id, name, payload, None, ts)
    insert_all(connection, run_id, [received])
    if found.parked:
        connection.execute(update(tables.run).where(run.id == run_id).values(wake_at=ts))
    return received, True


def insert_all(connection: Connection, run_id: str, received: list[ReceivedEvent]) -> None:
    """Store events that are new."""
    rows = [
        {
            "run_id": run_id,
            "number": each.number,
            "told": each.told,
            "event_id": each.event_id,
            "name": each.name,
            "payload": each.payload,
            "created_at": each.created_at,
        }
        for each in received
    ]
    if rows:
        connection.execute(insert(tables.received_event), rows)


def of_told(told: RunEvent) -> str | None:
    """Return the id of the event that a run was told, where it came from outside."""
    event_id = told.document.get("event_id")
    return event_id if told.document.get("type") == "received" and isinstance(event_id, str) else None


def mark(connection: Connection, run_id: str, told: RunEvent) -> None:
    """Remember that a run was told an event, if it came from outside."""
    event_id = of_told(told)
    if event_id is not None:
        connection.execute(_MARK, {"key_run_id": run_id, "key_event_id": event_id, "new_told": told.number})


def untold(connection: Connection, run_id: str) -> list[ReceivedEvent]:
    """Return the events that a run was not told yet, in the order they came in."""
    journal.last_number(connection, run_id)
    return [_record(row) for row in connection.execute(_UNTOLD, {"run_id": run_id})]


def has_untold(connection: Connection, run_id: str) -> bool:
    """Tell whether a run was not told all of its events yet."""
    query = select(_ROW.number).where(_ROW.run_id == run_id, _ROW.told.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def _known(connection: Connection, run_id: str, event_id: str) -> ReceivedEvent | None:
    query = select(tables.received_event).where(_ROW.run_id == run_id, _ROW.event_id == event_id)
    row = connection.execute(query).first()
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> ReceivedEvent:
    return ReceivedEvent(row.number, row.event_id, row.name, row.payload, row.told, row.created_at)
