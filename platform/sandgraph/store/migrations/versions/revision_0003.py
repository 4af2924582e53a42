"""Leases, scopes, checkpoints, events from outside, forks: what runs are made of by now."""

from __future__ import annotations

from sandgraph.store.migrations.statements import Statement, execute

revision = "0003"
down_revision = "0002"

STATEMENTS: tuple[Statement, ...] = (
    """
    CREATE TABLE process (
        id VARCHAR NOT NULL,
        started_at DATETIME NOT NULL,
        heartbeat_at DATETIME,
        CONSTRAINT pk_process PRIMARY KEY (id)
    )
    """,
    "ALTER TABLE run ADD COLUMN failure_code VARCHAR",
    "ALTER TABLE run ADD COLUMN lease INTEGER DEFAULT '0' NOT NULL",
    "ALTER TABLE run ADD COLUMN owner VARCHAR",
    "ALTER TABLE run ADD COLUMN paused BOOLEAN DEFAULT '0' NOT NULL",
    "ALTER TABLE run ADD COLUMN parked BOOLEAN DEFAULT '0' NOT NULL",
    "ALTER TABLE run ADD COLUMN wake_at DATETIME",
    "ALTER TABLE run ADD COLUMN forked_from VARCHAR",
    "ALTER TABLE run ADD COLUMN forked_at INTEGER",
    "UPDATE run SET failure_code = json_extract(failure, '$.code') WHERE failure IS NOT NULL",
    "CREATE INDEX ix_run_failure_code_id ON run (failure_code, id) WHERE failure_code IS NOT NULL",
    "CREATE INDEX ix_run_graph_name_status ON run (graph_name, status) WHERE finished_at IS NULL",
    "CREATE INDEX ix_run_wake_at_id ON run (wake_at, id) WHERE wake_at IS NOT NULL",
    # Keys cannot be altered: a new table takes the old one's rows. Parents go first, and the old ones last.
    "DROP INDEX ix_node_run_run_id_first_seq",
    "ALTER TABLE node_run RENAME TO old_node_run",
    "ALTER TABLE attempt RENAME TO old_attempt",
    "ALTER TABLE state_commit RENAME TO old_state_commit",
    """
    CREATE TABLE node_run (
        run_id VARCHAR NOT NULL,
        scope VARCHAR DEFAULT '' NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        status VARCHAR NOT NULL,
        message VARCHAR NOT NULL,
        failure VARCHAR,
        started_at DATETIME NOT NULL,
        finished_at DATETIME,
        CONSTRAINT pk_node_run PRIMARY KEY (run_id, scope, node, iteration),
        CONSTRAINT fk_node_run_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO node_run (run_id, node, iteration, first_seq, status, message, failure, started_at, finished_at)
    SELECT run_id, node, iteration, first_seq, status, message, failure, started_at, finished_at FROM old_node_run
    """,
    "CREATE INDEX ix_node_run_run_id_first_seq ON node_run (run_id, first_seq)",
    """
    CREATE TABLE attempt (
        run_id VARCHAR NOT NULL,
        scope VARCHAR DEFAULT '' NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        status VARCHAR NOT NULL,
        failure VARCHAR,
        usage VARCHAR,
        reads VARCHAR,
        started_at DATETIME NOT NULL,
        finished_at DATETIME,
        CONSTRAINT pk_attempt PRIMARY KEY (run_id, scope, node, iteration, attempt),
        CONSTRAINT fk_attempt_run_id_scope_node_iteration FOREIGN KEY(run_id, scope, node, iteration)
            REFERENCES node_run (run_id, scope, node, iteration)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO attempt (run_id, node, iteration, attempt, status, failure, usage, started_at, finished_at)
    SELECT run_id, node, iteration, attempt, status, failure, usage, started_at, finished_at FROM old_attempt
    """,
    """
    CREATE TABLE state_commit (
        run_id VARCHAR NOT NULL,
        number INTEGER NOT NULL,
        trunk INTEGER,
        parents VARCHAR NOT NULL,
        scope VARCHAR DEFAULT '' NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        attempt INTEGER,
        diff VARCHAR NOT NULL,
        merged VARCHAR,
        merged_writers VARCHAR,
        created_at DATETIME NOT NULL,
        CONSTRAINT pk_state_commit PRIMARY KEY (run_id, number),
        CONSTRAINT fk_state_commit_run_id_scope_node_iteration FOREIGN KEY(run_id, scope, node, iteration)
            REFERENCES node_run (run_id, scope, node, iteration),
        CONSTRAINT fk_state_commit_run_id_scope_node_iteration_attempt
            FOREIGN KEY(run_id, scope, node, iteration, attempt)
            REFERENCES attempt (run_id, scope, node, iteration, attempt),
        CONSTRAINT uq_state_commit_run_id_scope_node_iteration UNIQUE (run_id, scope, node, iteration)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO state_commit (run_id, number, parents, node, iteration, attempt, diff, created_at)
    SELECT run_id, number, parents, node, iteration, attempt, diff, created_at FROM old_state_commit
    """,
    "CREATE INDEX ix_state_commit_run_id_node_number ON state_commit (run_id, node, number)",
    "DROP TABLE old_state_commit",
    "DROP TABLE old_attempt",
    "DROP TABLE old_node_run",
    """
    CREATE TABLE checkpoint (
        run_id VARCHAR NOT NULL,
        number INTEGER NOT NULL,
        state VARCHAR NOT NULL,
        writers VARCHAR NOT NULL,
        CONSTRAINT pk_checkpoint PRIMARY KEY (run_id, number),
        CONSTRAINT fk_checkpoint_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE received_event (
        run_id VARCHAR NOT NULL,
        number INTEGER NOT NULL,
        told INTEGER,
        event_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        payload VARCHAR,
        created_at DATETIME NOT NULL,
        CONSTRAINT pk_received_event PRIMARY KEY (run_id, number),
        CONSTRAINT uq_received_event_run_id_event_id UNIQUE (run_id, event_id),
        CONSTRAINT fk_received_event_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    "ALTER TABLE event ADD COLUMN scope VARCHAR DEFAULT '' NOT NULL",
    "ALTER TABLE log_record ADD COLUMN scope VARCHAR DEFAULT '' NOT NULL",
)


def upgrade() -> None:
    """Make it of the one before; all that the database holds stays."""
    execute(STATEMENTS)
