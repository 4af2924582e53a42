"""From the schema of an earlier release to the present one, in place: `versions` has a revision for each.

A new database is made from `tables.py`, and stamped. What SQLite kept in its ``user_version`` before there were
revisions is the number of one.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, inspect, select

from sandgraph.store.tables import METADATA, SCHEMA_VERSION, alembic_version


def create(connection: Connection) -> None:
    """Make the tables of a new database."""
    METADATA.create_all(connection)
    stamp(connection, SCHEMA_VERSION)


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
