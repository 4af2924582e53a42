"""What is kept no more: lines first, then whole runs, a few rows at a time, each time in one transaction.

SQLite uses the space again for what comes; its file grows no more, and does not shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, and_, bindparam, case, delete, func, or_, select, update

from sandgraph.errors import Conflict, NotFound
from sandgraph.store import tables
from sandgraph.store.columns import now
from sandgraph.store.ids import first_id
from sandgraph.store.journal import RECORD_BYTES
from sandgraph.store.tables import METADATA

#: Children first.
_OF_RUNS: Sequence[Table] = [
    table
    for table in reversed(METADATA.sorted_tables)
    if "run_id" in table.c and any("run_id" in key.columns for key in table.foreign_key_constraints)
]

#: Rows with whole states, of some megabytes each, of which one transaction takes so many fewer.
_WIDE = {"checkpoint", "run_state", "state_commit", "run_event"}
_FEWER = 20


@dataclass(frozen=True, slots=True)
class Lines:
    """What the lines of a run are that are kept.

    Attributes:
        run_id: The run.
        last_seq: Its last number.
        is_final: Whether it has ended.
        oldest: When its first line was stored that is kept; None where there is none.
    """

    run_id: str
    last_seq: int
    is_final: bool
    oldest: datetime | None


def begin_deletion(connection: Connection, run_id: str) -> None:
    """Let a run be there no more; its rows follow, see `delete_some`.

    Raises:
        NotFound: There is no such run.
        Conflict: It has not ended (``run_not_finished``).
    """
    run = tables.run.c
    row = connection.execute(select(run.finished_at, run.deleted_at).where(run.id == run_id)).first()
    if row is None or row.deleted_at is not None:
        raise NotFound("run", run_id)
    if row.finished_at is None:
        message = f"The run {run_id} has not ended: cancel it first."
        raise Conflict(message, code="run_not_finished")
    _mark(connection, [run_id])


def begin_deletions(connection: Connection, before: datetime, limit: int) -> int:
    """Do the same for runs that ended before a time, oldest first, at most ``limit``; return for how many."""
    run = tables.run.c
    query = select(run.id).where(run.id < first_id("run", before), run.finished_at < before, run.deleted_at.is_(None))
    found = list(connection.scalars(query.order_by(run.id).limit(limit)))
    if found:
        _mark(connection, found)
    return len(found)


def _mark(connection: Connection, run_ids: Sequence[str]) -> None:
    # The key that it was made with may make another.
    gone = {"deleted_at": now(), "idempotency_key": None, "fingerprint": None}
    connection.execute(update(tables.run).where(tables.run.c.id.in_(run_ids)).values(gone))


def deleted(connection: Connection, limit: int) -> list[str]:
    """Return the ids of runs that are being deleted."""
    run = tables.run.c
    query = select(run.id).where(run.deleted_at.is_not(None)).order_by(run.deleted_at, run.id)
    return list(connection.scalars(query.limit(limit)))


def delete_some(connection: Connection, run_id: str, limit: int) -> int:
    """Delete some rows of a run that is being deleted; return how many, 0 once there is nothing of it."""
    for table in _OF_RUNS:
        most = max(limit // _FEWER, 1) if table.name in _WIDE else limit
        key = list(table.primary_key.columns)
        found = connection.execute(select(*key).where(table.c.run_id == run_id).limit(most)).all()
        if found:
            named = and_(*(column == bindparam(f"key_{column.name}") for column in key))
            rows = [{f"key_{name}": value for name, value in row._mapping.items()} for row in found]  # noqa: SLF001
            connection.execute(delete(table).where(named), rows)
            return len(found)
    run = tables.run.c
    return connection.execute(delete(tables.run).where(run.id == run_id, run.deleted_at.is_not(None))).rowcount


# Lines


def runs_with_lines(connection: Connection, after: str, before: datetime | None, limit: int) -> list[Lines]:
    """Return the runs, oldest first, of which it is not known that no line is kept.

    Args:
        connection: To the database.
        after: With greater ids.
        before: Made before then.
        limit: At most so many.
    """
    run, log = tables.run.c, tables.log_record.c
    first = select(log.ts).where(log.run_id == run.id, log.seq >= run.logs_kept_from).order_by(log.seq).limit(1)
    query = select(run.id, run.last_seq, run.finished_at, first.scalar_subquery().label("oldest"))
    # One in flight may print more.
    has_more = or_(run.logs_kept_from <= run.last_seq, run.finished_at.is_(None))
    query = query.where(run.id > after, has_more, run.deleted_at.is_(None))
    if before is not None:
        query = query.where(run.id < first_id("run", before))
    return [
        Lines(row.id, row.last_seq, row.finished_at is not None, row.oldest)
        for row in connection.execute(query.order_by(run.id).limit(limit))
    ]


def mark_without_lines(connection: Connection, run_ids: Sequence[str]) -> None:
    """Note that runs which ended have no lines that are kept."""
    run = tables.run.c
    is_over = and_(run.id.in_(run_ids), run.finished_at.is_not(None))
    connection.execute(update(tables.run).where(is_over).values(logs_kept_from=run.last_seq + 1))


def remove_lines(connection: Connection, run_id: str, before: datetime | None, limit: int) -> tuple[int, int]:
    """Remove a run's first lines, at most ``limit``, those stored before a time where one is given.

    Returns:
        How many were removed, and how many bytes that was.
    """
    run, log = tables.run.c, tables.log_record.c
    kept_from = connection.scalar(select(run.logs_kept_from).where(run.id == run_id, run.deleted_at.is_(None)))
    if kept_from is None:
        return 0, 0
    query = select(log.seq, log.ts, func.length(log.text).label("length"))
    query = query.where(log.run_id == run_id, log.seq >= kept_from).order_by(log.seq).limit(limit)
    found = connection.execute(query).all()
    rows = found if before is None else [row for row in found if row.ts < before]
    if not rows:
        return 0, 0
    last = rows[-1].seq
    connection.execute(delete(tables.log_record).where(log.run_id == run_id, log.seq >= kept_from, log.seq <= last))
    size = sum(row.length + RECORD_BYTES for row in rows)
    changes = {
        "logs_kept_from": last + 1,
        "logs_removed": run.logs_removed + len(rows),
        # Those of an earlier release were not counted in.
        "stored_bytes": case((run.stored_bytes > size, run.stored_bytes - size), else_=0),
    }
    connection.execute(update(tables.run).where(run.id == run_id).values(changes))
    return len(rows), size


def count_lines(connection: Connection, run_id: str, after: int, limit: int) -> tuple[int, int, int]:
    """Return how many of the ``limit`` lines after a number there are, their bytes, and the last one's number."""
    log = tables.log_record.c
    some = select(log.seq, log.text).where(log.run_id == run_id, log.seq > after).order_by(log.seq).limit(limit)
    few = some.subquery()
    query = select(func.count(), func.coalesce(func.sum(func.length(few.c.text)), 0), func.max(few.c.seq))
    lines, length, last = connection.execute(query.select_from(few)).one()
    return lines, length + lines * RECORD_BYTES, after if last is None else last
