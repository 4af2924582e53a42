"""The schema of the first release."""

from __future__ import annotations

from sandgraph.store.migrations.statements import Statement, execute

revision = "0001"
down_revision: str | None = None

STATEMENTS: tuple[Statement, ...] = (
    """
    CREATE TABLE code (
        kind VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        hash VARCHAR NOT NULL,
        code VARCHAR NOT NULL,
        description VARCHAR NOT NULL,
        created_at DATETIME NOT NULL,
        CONSTRAINT pk_code PRIMARY KEY (kind, name, version)
    )
    """,
    """
    CREATE TABLE graph (
        id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        document VARCHAR NOT NULL,
        created_at DATETIME NOT NULL,
        CONSTRAINT pk_graph PRIMARY KEY (id),
        CONSTRAINT uq_graph_name_version UNIQUE (name, version)
    )
    """,
    "CREATE INDEX ix_graph_name_id ON graph (name, id)",
    """
    CREATE TABLE run (
        id VARCHAR NOT NULL,
        graph_id VARCHAR NOT NULL,
        graph_name VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        failure VARCHAR,
        image VARCHAR NOT NULL,
        idempotency_key VARCHAR,
        fingerprint VARCHAR,
        last_seq INTEGER NOT NULL,
        last_commit INTEGER NOT NULL,
        created_at DATETIME NOT NULL,
        started_at DATETIME,
        finished_at DATETIME,
        CONSTRAINT pk_run PRIMARY KEY (id),
        CONSTRAINT fk_run_graph_id FOREIGN KEY(graph_id) REFERENCES graph (id),
        CONSTRAINT uq_run_idempotency_key UNIQUE (idempotency_key)
    )
    """,
    "CREATE INDEX ix_run_graph_id_status_id ON run (graph_id, status, id)",
    "CREATE INDEX ix_run_status_id ON run (status, id)",
    "CREATE INDEX ix_run_graph_id_id ON run (graph_id, id)",
    """
    CREATE TABLE run_state (
        run_id VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        CONSTRAINT pk_run_state PRIMARY KEY (run_id, kind),
        CONSTRAINT ck_run_state_kind CHECK (kind IN ('initial', 'final')),
        CONSTRAINT fk_run_state_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE run_code (
        run_id VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        CONSTRAINT pk_run_code PRIMARY KEY (run_id, kind, name),
        CONSTRAINT fk_run_code_kind_name_version
            FOREIGN KEY(kind, name, version) REFERENCES code (kind, name, version),
        CONSTRAINT fk_run_code_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE node_run (
        run_id VARCHAR NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        status VARCHAR NOT NULL,
        message VARCHAR NOT NULL,
        failure VARCHAR,
        started_at DATETIME NOT NULL,
        finished_at DATETIME,
        CONSTRAINT pk_node_run PRIMARY KEY (run_id, node, iteration),
        CONSTRAINT fk_node_run_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    "CREATE INDEX ix_node_run_run_id_first_seq ON node_run (run_id, first_seq)",
    """
    CREATE TABLE event (
        run_id VARCHAR NOT NULL,
        seq INTEGER NOT NULL,
        ts DATETIME NOT NULL,
        type VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        message VARCHAR NOT NULL,
        node VARCHAR,
        iteration INTEGER,
        attempt INTEGER,
        diff_of INTEGER,
        data VARCHAR,
        CONSTRAINT pk_event PRIMARY KEY (run_id, seq),
        CONSTRAINT fk_event_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE log_record (
        run_id VARCHAR NOT NULL,
        seq INTEGER NOT NULL,
        ts DATETIME NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        stream VARCHAR NOT NULL,
        elapsed_s FLOAT NOT NULL,
        text VARCHAR NOT NULL,
        is_cut BOOLEAN NOT NULL,
        CONSTRAINT pk_log_record PRIMARY KEY (run_id, seq),
        CONSTRAINT fk_log_record_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE attempt (
        run_id VARCHAR NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        status VARCHAR NOT NULL,
        failure VARCHAR,
        usage VARCHAR,
        started_at DATETIME NOT NULL,
        finished_at DATETIME,
        CONSTRAINT pk_attempt PRIMARY KEY (run_id, node, iteration, attempt),
        CONSTRAINT fk_attempt_run_id_node_iteration FOREIGN KEY(run_id, node, iteration)
            REFERENCES node_run (run_id, node, iteration)
    )
    """,
    """
    CREATE TABLE state_commit (
        run_id VARCHAR NOT NULL,
        number INTEGER NOT NULL,
        parents VARCHAR NOT NULL,
        diff VARCHAR NOT NULL,
        node VARCHAR NOT NULL,
        iteration INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        created_at DATETIME NOT NULL,
        CONSTRAINT pk_state_commit PRIMARY KEY (run_id, number),
        CONSTRAINT fk_state_commit_run_id_node_iteration_attempt
            FOREIGN KEY(run_id, node, iteration, attempt) REFERENCES attempt (run_id, node, iteration, attempt),
        CONSTRAINT uq_state_commit_run_id_node_iteration UNIQUE (run_id, node, iteration)
    )
    """,
)


def upgrade() -> None:
    """Make it of the one before (an empty database); all that the database holds stays."""
    execute(STATEMENTS)
