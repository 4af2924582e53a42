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
    2: (
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
    ),
    3: (
        # Neither keys nor constraints can be altered: each table is made anew of its rows. What refers to them is
        # looked at when all is done.
        "PRAGMA defer_foreign_keys = ON",
        "CREATE TABLE old_run_code AS SELECT * FROM run_code",
        "DROP TABLE run_code",
        "CREATE TABLE old_code AS SELECT * FROM code",
        "DROP TABLE code",
        """
        CREATE TABLE code (
            tenant VARCHAR DEFAULT 'default' NOT NULL,
            kind VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            version INTEGER NOT NULL,
            hash VARCHAR NOT NULL,
            code VARCHAR NOT NULL,
            description VARCHAR NOT NULL,
            created_at DATETIME NOT NULL,
            CONSTRAINT pk_code PRIMARY KEY (tenant, kind, name, version)
        )
        """,
        """
        INSERT INTO code (kind, name, version, hash, code, description, created_at)
        SELECT kind, name, version, hash, code, description, created_at FROM old_code
        """,
        "DROP TABLE old_code",
        """
        CREATE TABLE run_code (
            run_id VARCHAR NOT NULL,
            kind VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            version INTEGER NOT NULL,
            tenant VARCHAR DEFAULT 'default' NOT NULL,
            CONSTRAINT pk_run_code PRIMARY KEY (run_id, kind, name),
            CONSTRAINT fk_run_code_tenant_kind_name_version FOREIGN KEY(tenant, kind, name, version)
                REFERENCES code (tenant, kind, name, version),
            CONSTRAINT fk_run_code_run_id FOREIGN KEY(run_id) REFERENCES run (id)
        ) WITHOUT ROWID
        """,
        "INSERT INTO run_code (run_id, kind, name, version) SELECT run_id, kind, name, version FROM old_run_code",
        "DROP TABLE old_run_code",
        "CREATE TABLE old_graph AS SELECT * FROM graph",
        "DROP TABLE graph",
        """
        CREATE TABLE graph (
            id VARCHAR NOT NULL,
            tenant VARCHAR DEFAULT 'default' NOT NULL,
            name VARCHAR NOT NULL,
            version INTEGER NOT NULL,
            document VARCHAR NOT NULL,
            created_at DATETIME NOT NULL,
            CONSTRAINT pk_graph PRIMARY KEY (id),
            CONSTRAINT uq_graph_tenant_name_version UNIQUE (tenant, name, version)
        )
        """,
        """
        INSERT INTO graph (id, name, version, document, created_at)
        SELECT id, name, version, document, created_at FROM old_graph
        """,
        "DROP TABLE old_graph",
        "CREATE INDEX ix_graph_tenant_id ON graph (tenant, id)",
        "CREATE INDEX ix_graph_tenant_name_id ON graph (tenant, name, id)",
        "CREATE TABLE old_run AS SELECT * FROM run",
        "DROP TABLE run",
        """
        CREATE TABLE run (
            id VARCHAR NOT NULL,
            tenant VARCHAR DEFAULT 'default' NOT NULL,
            graph_id VARCHAR NOT NULL,
            graph_name VARCHAR NOT NULL,
            status VARCHAR NOT NULL,
            failure VARCHAR,
            failure_code VARCHAR,
            image VARCHAR NOT NULL,
            idempotency_key VARCHAR,
            fingerprint VARCHAR,
            last_seq INTEGER NOT NULL,
            last_commit INTEGER NOT NULL,
            recoveries INTEGER DEFAULT '0' NOT NULL,
            lease INTEGER DEFAULT '0' NOT NULL,
            owner VARCHAR,
            paused BOOLEAN DEFAULT '0' NOT NULL,
            parked BOOLEAN DEFAULT '0' NOT NULL,
            wake_at DATETIME,
            forked_from VARCHAR,
            forked_at INTEGER,
            created_at DATETIME NOT NULL,
            started_at DATETIME,
            finished_at DATETIME,
            CONSTRAINT pk_run PRIMARY KEY (id),
            CONSTRAINT uq_run_tenant_idempotency_key UNIQUE (tenant, idempotency_key),
            CONSTRAINT fk_run_graph_id FOREIGN KEY(graph_id) REFERENCES graph (id)
        )
        """,
        """
        INSERT INTO run (id, graph_id, graph_name, status, failure, failure_code, image, idempotency_key, fingerprint,
            last_seq, last_commit, recoveries, lease, owner, paused, parked, wake_at, forked_from, forked_at,
            created_at, started_at, finished_at)
        SELECT id, graph_id, graph_name, status, failure, failure_code, image, idempotency_key, fingerprint,
            last_seq, last_commit, recoveries, lease, owner, paused, parked, wake_at, forked_from, forked_at,
            created_at, started_at, finished_at FROM old_run
        """,
        "DROP TABLE old_run",
        "CREATE INDEX ix_run_status_id ON run (status, id)",
        "CREATE INDEX ix_run_tenant_id ON run (tenant, id)",
        "CREATE INDEX ix_run_tenant_status_id ON run (tenant, status, id)",
        "CREATE INDEX ix_run_graph_id_id ON run (graph_id, id)",
        "CREATE INDEX ix_run_graph_id_status_id ON run (graph_id, status, id)",
        "CREATE INDEX ix_run_tenant_failure_code_id ON run (tenant, failure_code, id) WHERE failure_code IS NOT NULL",
        "CREATE INDEX ix_run_tenant_graph_name_status ON run (tenant, graph_name, status) WHERE finished_at IS NULL",
        "CREATE INDEX ix_run_wake_at_id ON run (wake_at, id) WHERE wake_at IS NOT NULL",
        """
        CREATE TABLE api_key (
            id VARCHAR NOT NULL,
            tenant VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            scopes VARCHAR NOT NULL,
            digest VARCHAR NOT NULL,
            created_at DATETIME NOT NULL,
            created_by VARCHAR NOT NULL,
            expires_at DATETIME,
            last_used_at DATETIME,
            revoked_at DATETIME,
            CONSTRAINT pk_api_key PRIMARY KEY (id)
        )
        """,
        "CREATE INDEX ix_api_key_tenant_id ON api_key (tenant, id)",
    ),
}


def apply(connection: Connection, version: int) -> None:
    """Bring a database of schema ``version`` to the present one; all that it holds stays."""
    for each in range(version, SCHEMA_VERSION):
        for statement in _STATEMENTS[each]:
            connection.exec_driver_sql(statement)
