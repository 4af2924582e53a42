"""The process that works on the database: it says so in a row, and whoever has none may not write.

A folder has one process, as its lock says. But one that is frozen holds its lock for ever, and must not go on where it
stopped once another has taken its place: so its row is removed, which every transaction that writes looks for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, delete, func, insert, select, update

from sandgraph.errors import ConfigurationError, Conflict
from sandgraph.model.run import RunStatus
from sandgraph.store import tables
from sandgraph.store.columns import now

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
    return last is not None and now() - datetime.fromisoformat(last).replace(tzinfo=UTC) > timedelta(seconds=after_s)


MayReplace = Callable[[str, datetime | None], bool]


def refusing(connection: Connection, may_replace: MayReplace) -> str | None:
    """Return the id of a process whose place may not be taken; None if there is none."""
    others = _others(connection).items()
    return next((other for other, heartbeat_at in others if not may_replace(other, heartbeat_at)), None)


def register(connection: Connection, process_id: str, may_replace: MayReplace, *, beats: bool) -> str | None:
    """Say that this process works on the database, in the place of any other.

    What another one left in progress gets new leases.

    Args:
        connection: To the database.
        process_id: Unique to this start of the process.
        may_replace: Whether the place of another may be taken, by its id and the time at which it was last heard of
            (None where it does not promise any).
        beats: Whether it promises heartbeats; the place of one that does not is not taken for want of them.

    Returns:
        None; or the id of a process whose place may not be taken, and nothing was done.
    """
    others = _others(connection)
    if process_id in others:
        raise ConfigurationError(f"process_id: {process_id!r} was the name of an earlier process; choose a new one.")
    in_use_by = refusing(connection, may_replace)
    if in_use_by is not None:
        return in_use_by
    if others:
        run = tables.run.c
        connection.execute(delete(tables.process))
        connection.execute(
            update(tables.run)
            .where(run.status.in_(_UNFINISHED), run.finished_at.is_(None))
            .values(lease=run.lease + 1, owner=None)
        )
    ts = _time(connection)
    connection.execute(
        insert(tables.process), {"id": process_id, "started_at": ts, "heartbeat_at": ts if beats else None}
    )
    return None


def fenced() -> Conflict:
    """Return the error of a process that has no row any more: it has to stop."""
    message = "Another process took this one's place, as it had not been heard of for too long; it has to stop."
    return Conflict(message, code="lease_lost")


def beat(connection: Connection, process_id: str) -> None:
    """Say that the process is there still."""
    connection.execute(update(tables.process).where(_ROW.id == process_id).values(heartbeat_at=_time(connection)))


def leave(connection: Connection, process_id: str) -> None:
    """Say that the process works on the database no more."""
    connection.execute(delete(tables.process).where(_ROW.id == process_id))


def is_over(connection: Connection, last: datetime | None, after_s: float) -> bool:
    """Tell whether a process promised heartbeats and gave none for so long."""
    return last is not None and _time(connection) - last > timedelta(seconds=after_s)


def _others(connection: Connection) -> dict[str, datetime | None]:
    return {row.id: row.heartbeat_at for row in connection.execute(select(_ROW.id, _ROW.heartbeat_at))}


def _time(connection: Connection) -> datetime:
    """Return the time: a server's own, for the processes that it compares may be of hosts whose clocks differ."""
    if connection.dialect.name == "sqlite":
        return now()
    at: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return at
