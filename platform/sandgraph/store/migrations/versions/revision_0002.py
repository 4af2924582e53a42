"""Runs are resumed: what each was told is kept."""

from __future__ import annotations

from sandgraph.store.migrations.statements import Statement, execute

revision = "0002"
down_revision = "0001"

STATEMENTS: tuple[Statement, ...] = (
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
)


def upgrade() -> None:
    """Make it of the one before; all that the database holds stays."""
    execute(STATEMENTS)
