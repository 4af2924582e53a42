"""Who works on a run: its lease, and how it waits while nobody does."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, false, func, literal_column, null, select, update

from sandgraph.errors import Conflict
from sandgraph.model.run import RunStatus
from sandgraph.store import journal, received_events, runs, tables
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import RunRecord

_RUN = tables.run.c

_CLAIM = Prepared(
    update(tables.run)
    .where(_RUN.id == bindparam("run_id"), _RUN.finished_at.is_(None))
    .values(lease=_RUN.lease + literal_column("1"), owner=bindparam("new_owner"), parked=false(), wake_at=null())
    .returning(_RUN.lease)
)


def claim(connection: Connection, run_id: str, owner: str) -> int:
    """Give a run to somebody, and return the lease; whoever had it before has it no more, and it is parked no more.

    Raises:
        NotFound: There is no such run.
        Conflict: It has ended.
    """
    lease = _CLAIM.scalar(connection, {"run_id": run_id, "owner": owner})
    if lease is None:
        journal.last_number(connection, run_id)
        raise Conflict(f"The run {run_id} has ended: nobody can work on it any more.", code="run_ended")
    return int(lease)


def take_pending(connection: Connection, run_id: str, owner: str) -> tuple[RunRecord, int] | None:
    """Give a pending run to somebody, and return it and the lease; None where it is not pending."""
    if runs.status(connection, run_id) is not RunStatus.PENDING:
        return None
    lease = claim(connection, run_id, owner)
    return runs.get(connection, run_id), lease


def park(connection: Connection, run_id: str, lease: int, wake_at: datetime | None) -> bool:
    """Let a run wait with nobody working on it, unless it has something to be told; tell whether it does.

    Raises:
        NotFound: There is no such run.
        Conflict: The lease is over, or the run does not wait.
    """
    journal.last_number(connection, run_id, lease)
    if received_events.has_untold(connection, run_id):
        return False
    parked = connection.execute(
        update(tables.run)
        .where(_RUN.id == run_id, _RUN.status == RunStatus.WAITING.value)
        .values(parked=True, wake_at=wake_at, owner=None)
    )
    if parked.rowcount == 0:
        raise Conflict(f"The run {run_id} does not wait.", code="run_not_waiting")
    return True


def due(connection: Connection, at: datetime) -> list[str]:
    """Return the ids of the parked runs that are to go on by then, first those that have been due for longest."""
    query = select(_RUN.id).where(_RUN.wake_at <= at).order_by(_RUN.wake_at, _RUN.id)
    return list(connection.scalars(query))


def next_wake(connection: Connection) -> datetime | None:
    """Return when the next parked run is to go on; None where none waits for a time."""
    first: datetime | None = connection.scalar(select(func.min(_RUN.wake_at)).where(_RUN.wake_at.is_not(None)))
    return first


def wake(connection: Connection, run_id: str, at: datetime) -> None:
    """Say of a run that waits that it is to go on at that time, for it may not know what it waits for."""
    connection.execute(
        update(tables.run).where(_RUN.id == run_id).values(lease=_RUN.lease + 1, owner=None, parked=True, wake_at=at)
    )


def release(connection: Connection, run_id: str) -> None:
    """Take a run from whoever works on it."""
    connection.execute(update(tables.run).where(_RUN.id == run_id).values(lease=_RUN.lease + 1, owner=None))
