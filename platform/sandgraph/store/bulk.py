"""Many rows at once, for which SQLAlchemy takes several times as long as SQLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Insert
from sqlalchemy.types import TypeEngine

from sandgraph.store.columns import SafeText, UtcTime, sqlite_of

#: With fewer, it makes no difference.
_MANY = 100


def insert_rows(connection: Connection, statement: Insert, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that have the same columns."""
    if len(rows) < _MANY:
        connection.execute(statement, rows)
        return
    table = statement.table
    names = list(rows[0])
    binds = [_bind(table.c[name].type, connection.dialect) for name in names]
    text = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - ours
    columns = [[bind(row[name]) for row in rows] for name, bind in zip(names, binds, strict=True)]
    sqlite_of(connection).executemany(text, zip(*columns, strict=True))


def _bind(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], object]:
    bind = type_.dialect_impl(dialect).bind_processor(dialect) or _as_is
    # Most rows say the same there.
    return lru_cache(256)(bind) if isinstance(type_, UtcTime | SafeText) else bind


def _as_is(value: object) -> object:
    return value
