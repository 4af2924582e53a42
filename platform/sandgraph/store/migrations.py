"""From the schema of an earlier release to the present one, in place."""

from __future__ import annotations

from sqlalchemy import Connection

from sandgraph.store.tables import SCHEMA_VERSION

#: By the schema they start from. Written out, for the tables go on changing.
_STATEMENTS = {
    1: (
        "ALTER TABLE run ADD COLUMN recoveries INTEGER DEFAULT '0' NOT NULL",
        """
        CREATE TABLE run_event (
            run_id VARCHAR NOT NULL,
            number INTEGER NOT NULL,
            document VARCHAR NOT NULL,
            diff_of INTEGER,
            created_at DATETIME NOT NULL,
            CONSTRAINT pk_run_event PRIMARY KEY (run_id, number),
            CONSTRAINT fk_run_event_run_id FOREIGN KEY(run_id) REFERENCES run (id)
        ) WITHOUT ROWID
        """,
    ),
}


def apply(connection: Connection, version: int) -> None:
    """Bring a database of schema ``version`` to the present one; all that it holds stays."""
    for each in range(version, SCHEMA_VERSION):
        for statement in _STATEMENTS[each]:
            connection.exec_driver_sql(statement)
