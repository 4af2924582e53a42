"""What a program committed to its SQLite database, read off the write-ahead log from outside."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")


@dataclass(frozen=True, slots=True)
class Written:
    """What a log holds: with synchronous=FULL each transaction is one sync of it."""

    transactions: int
    pages: int


def empty(database: Path) -> None:
    """Fold the log into its database, so that what comes is all it holds."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def written(database: Path) -> Written:
    """Return what was committed since `empty`; a thousand pages at most, or the log begins anew."""
    data = database.with_name(f"{database.name}-wal").read_bytes()
    if len(data) < _HEADER.size:
        return Written(0, 0)
    _, _, page_size, _, *salts, _, _ = _HEADER.unpack_from(data)
    transactions, pages, at = 0, 0, _HEADER.size
    while at + _FRAME.size + page_size <= len(data):
        _, size_after_commit, *of_frame, _, _ = _FRAME.unpack_from(data, at)
        if of_frame != salts:
            break
        pages += 1
        transactions += size_after_commit != 0
        at += _FRAME.size + page_size
    return Written(transactions, pages)
