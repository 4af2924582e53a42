"""The process that works on the database: it says so in a row, and whoever has none may not write.

A folder has one process, as its lock says. But one that is frozen holds its lock for ever, and must not go on where it
stopped once another has taken its place: so its row is removed, which every transaction that writes looks for.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from sandgraph.errors import ConfigurationError, Conflict
from sandgraph.model.run import RunStatus
from sandgraph.store import tables
from sandgraph.store.columns import now, sqlite_of

_ROW = tables.process.c

_UNFINISHED = [
    status.value for status in RunStatus if not status.is_final or status is RunStatus.INTERRUPTED
]  # Interrupted ones may go on.


def is_frozen(file: Path, after_s: float) -> bool:
    """Tell whether whoever works on a database, of whatever schema, promised heartbeats and gave none for so long."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            ((last,),) = database.execute("SELECT max(heartbeat_at) FROM process")
    except sqlite3.Error:
        # An earlier release has no heart: its lock alone decides.
        return False
    return last is not None and _is_over(datetime.fromisoformat(last).replace(tzinfo=UTC), after_s)


def register(connection: Connection, process_id: str, *, frozen_after_s: float | None, beats: bool) -> bool:
    """Say that this process works on the database, in the place of any other; tell whether that could be.

    What another one left in progress gets new leases.

    Args:
        connection: To the database.
        process_id: Unique to this start of the process.
        frozen_after_s: Take the place of a process that has said nothing for so many seconds, and of no other; None
            where no other is there, as the lock says.
        beats: Whether it promises heartbeats; the place of one that does not is not taken for want of them.
    """
    ts = now()
    others = connection.execute(select(_ROW.id, _ROW.heartbeat_at)).all()
    if any(other.id == process_id for other in others):
        raise ConfigurationError(f"process_id: {process_id!r} was the name of an earlier process; choose a new one.")
    if frozen_after_s is not None and any(not _is_over(other.heartbeat_at, frozen_after_s) for other in others):
        return False
    if others:
        run = tables.run.c
        connection.execute(delete(tables.process))
        connection.execute(
            update(tables.run)
            .where(run.status.in_(_UNFINISHED), run.finished_at.is_(None))
            .values(lease=run.lease + 1, owner=None)
        )
    connection.execute(
        insert(tables.process), {"id": process_id, "started_at": ts, "heartbeat_at": ts if beats else None}
    )
    return True


def check(connection: Connection, process_id: str) -> None:
    """Do nothing, unless another process took this one's place.

    Raises:
        Conflict: It did (``lease_lost``): this one has to stop.
    """
    # Past SQLAlchemy, which takes ten times as long as SQLite: it is asked in every transaction that writes.
    if sqlite_of(connection).execute("SELECT 1 FROM process WHERE id = ?", (process_id,)).fetchone() is None:
        message = "Another process took this one's place, as it had not been heard of for too long; it has to stop."
        raise Conflict(message, code="lease_lost")


def beat(connection: Connection, process_id: str) -> None:
    """Say that the process is there still."""
    connection.execute(update(tables.process).where(_ROW.id == process_id).values(heartbeat_at=now()))


def leave(connection: Connection, process_id: str) -> None:
    """Say that the process works on the database no more."""
    connection.execute(delete(tables.process).where(_ROW.id == process_id))


def _is_over(last: datetime | None, after_s: float) -> bool:
    return last is not None and now() - last > timedelta(seconds=after_s)
