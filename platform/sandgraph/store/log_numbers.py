"""From a time to a line's number and back: both only ever rise, so a few look-ups will do."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from sandgraph.store import tables


def first_since(connection: Connection, run_id: str, last_seq: int, since: datetime) -> int:
    """Return the number of the first line that was stored then or later; one after the last where none was."""
    log = tables.log_record.c
    low, high = 1, last_seq + 1
    while low < high:
        middle = (low + high) // 2
        query = select(log.seq, log.ts).where(log.run_id == run_id, log.seq >= middle).order_by(log.seq).limit(1)
        row = connection.execute(query).first()
        if row is None or row.ts >= since:
            high = middle
        else:
            low = row.seq + 1
    return low


def line_before(connection: Connection, run_id: str, seq: int) -> tuple[int, datetime] | None:
    """Return the number and the time of the last line with a lower number; None where there is none."""
    log = tables.log_record.c
    query = select(log.seq, log.ts).where(log.run_id == run_id, log.seq < seq).order_by(log.seq.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else (row.seq, row.ts)


def line_after(connection: Connection, run_id: str, seq: int) -> tuple[int, datetime] | None:
    """Return the same of the first line with a higher number."""
    log = tables.log_record.c
    query = select(log.seq, log.ts).where(log.run_id == run_id, log.seq > seq).order_by(log.seq).limit(1)
    row = connection.execute(query).first()
    return None if row is None else (row.seq, row.ts)
