"""From the schema of an earlier release to the present one, in place: `versions` has a revision for each.

A new database is made from `tables.py`, and stamped. What SQLite kept in its ``user_version`` before there were
revisions is the number of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Dialect, delete, insert, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable

from sandgraph.store.tables import METADATA, SCHEMA_VERSION, alembic_version

#: What makes all tables, by dialect; for whoever opens more than one new database.
_STATEMENTS: dict[str, Sequence[str]] = {}


def create(connection: Connection) -> None:
    """Make the tables of a new database."""
    for statement in _rendered(connection.dialect):
        connection.exec_driver_sql(statement)
    stamp(connection, SCHEMA_VERSION)


def _rendered(dialect: Dialect) -> Sequence[str]:
    """Return the statements that make all tables: to render them takes three times as long as to run them."""
    if dialect.name not in _STATEMENTS:
        parts: list[CreateTable | CreateIndex] = []
        for table in METADATA.sorted_tables:
            parts.append(CreateTable(table))
            parts.extend(CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))
        _STATEMENTS[dialect.name] = [str(part.compile(dialect=dialect)) for part in parts]
    return _STATEMENTS[dialect.name]


def upgrade(connection: Connection, version: int, to: int = SCHEMA_VERSION) -> None:
    """Bring a database of schema ``version`` to another, in the connection's transaction; all that it holds stays.

    Args:
        connection: In a transaction.
        version: What it is of; 0 where it is empty.
        to: A later one.
    """
    if version < to:
        # It takes 0.15 s to load, and is needed after an upgrade alone.
        from sandgraph.store.migrations import alembic_runs  # noqa: PLC0415

        stamp(connection, version)
        alembic_runs.upgrade(connection, revision_of(to))


def stamp(connection: Connection, version: int) -> None:
    """Write down of which schema a database is."""
    alembic_version.create(connection, checkfirst=True)
    connection.execute(delete(alembic_version))
    if version:
        connection.execute(insert(alembic_version), {"version_num": revision_of(version)})


def stamped(connection: Connection) -> int:
    """Return of which schema a database says it is; 0 where it says nothing."""
    if not inspect(connection).has_table(alembic_version.name):
        return 0
    return int(connection.scalar(select(alembic_version.c.version_num)) or 0)


def revision_of(version: int) -> str:
    """Return the revision of a schema."""
    return f"{version:04}"
