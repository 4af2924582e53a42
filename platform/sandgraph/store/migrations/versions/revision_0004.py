"""Tenants, and all else that makes a service of it.

How to add to the schema, in this revision until it is released: change `tables.py`, and append to `STATEMENTS` what
makes the same of a database with data in it. A new database is made from `tables.py`, and PostgreSQL begins with this
schema, so these are SQLite's alone. After the release: raise `SCHEMA_VERSION`, and begin a file ``revision_0005.py``
like this one, whose statements are for both databases; where they differ, a mapping has one for each.
"""

from __future__ import annotations

from sandgraph.store.migrations.statements import Statement, execute

revision = "0004"
down_revision = "0003"

STATEMENTS: tuple[Statement, ...] = (
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
    "CREATE INDEX ix_run_tenant_graph_name_id ON run (tenant, graph_name, id)",
    "CREATE INDEX ix_run_tenant_finished_at_id ON run (tenant, finished_at, id) WHERE finished_at IS NOT NULL",
    "CREATE INDEX ix_run_tenant_forked_from_id ON run (tenant, forked_from, id) WHERE forked_from IS NOT NULL",
    "CREATE INDEX ix_run_tenant_id_paused ON run (tenant, id) WHERE paused IS 1",
    "CREATE INDEX ix_code_tenant_kind_created_at_name ON code (tenant, kind, created_at, name)",
    """
    CREATE TABLE run_annotation (
        run_id VARCHAR NOT NULL,
        tags VARCHAR NOT NULL,
        notes VARCHAR NOT NULL,
        revision INTEGER NOT NULL,
        CONSTRAINT pk_run_annotation PRIMARY KEY (run_id),
        CONSTRAINT fk_run_annotation_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE run_tag (
        run_id VARCHAR NOT NULL,
        tag VARCHAR NOT NULL,
        tenant VARCHAR NOT NULL,
        CONSTRAINT pk_run_tag PRIMARY KEY (run_id, tag),
        CONSTRAINT fk_run_tag_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_run_tag_tenant_tag_run_id ON run_tag (tenant, tag, run_id)",
    """
    CREATE TABLE kept_answer (
        tenant VARCHAR NOT NULL,
        route VARCHAR NOT NULL,
        "key" VARCHAR NOT NULL,
        fingerprint VARCHAR NOT NULL,
        status INTEGER NOT NULL,
        headers VARCHAR NOT NULL,
        body VARCHAR NOT NULL,
        created_at DATETIME NOT NULL,
        CONSTRAINT pk_kept_answer PRIMARY KEY (tenant, route, "key")
    )
    """,
    "CREATE INDEX ix_kept_answer_created_at ON kept_answer (created_at)",
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
    "DROP INDEX ix_state_commit_run_id_node_number",
    # Of each event a row that holds it alone, as JSON.
    "ALTER TABLE event RENAME TO old_event",
    """
    CREATE TABLE event (
        run_id VARCHAR NOT NULL,
        seq INTEGER NOT NULL,
        ts DATETIME NOT NULL,
        entries VARCHAR NOT NULL,
        CONSTRAINT pk_event PRIMARY KEY (run_id, seq),
        CONSTRAINT fk_event_run_id FOREIGN KEY(run_id) REFERENCES run (id)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO event (run_id, seq, ts, entries)
    SELECT run_id, seq, ts, '[[' || json_quote(type) || ',' || json_quote(status) || ',' || json_quote(message)
        || ',' || json_quote(node) || ',' || json_quote(iteration) || ',' || json_quote(attempt)
        || ',' || json_quote(scope) || ','
        || CASE
            WHEN diff_of IS NULL THEN coalesce(data, 'null')
            WHEN coalesce(data, '{}') = '{}' THEN '{"diff_of":' || diff_of || '}'
            ELSE substr(data, 1, length(data) - 1) || ',"diff_of":' || diff_of || '}'
        END || ']]'
    FROM old_event
    """,
    "DROP TABLE old_event",
    "ALTER TABLE run ADD COLUMN logs_kept_from INTEGER DEFAULT '1' NOT NULL",
    "ALTER TABLE run ADD COLUMN logs_removed INTEGER DEFAULT '0' NOT NULL",
    "ALTER TABLE run ADD COLUMN traceparent VARCHAR",
    "ALTER TABLE run ADD COLUMN deleted_at DATETIME",
    "CREATE INDEX ix_run_deleted_at ON run (deleted_at) WHERE deleted_at IS NOT NULL",
    "CREATE INDEX ix_attempt_run_id_status ON attempt (run_id, status) WHERE status = 'output_limit'",
    """
    CREATE TABLE webhook (
        id VARCHAR NOT NULL,
        tenant VARCHAR NOT NULL,
        url VARCHAR NOT NULL,
        events VARCHAR NOT NULL,
        graph VARCHAR,
        description VARCHAR NOT NULL,
        secret VARCHAR NOT NULL,
        old_secret VARCHAR,
        old_secret_until DATETIME,
        is_enabled BOOLEAN NOT NULL,
        disabled_reason VARCHAR,
        version INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        closed_until DATETIME,
        pending INTEGER NOT NULL,
        dropped INTEGER NOT NULL,
        created_at DATETIME NOT NULL,
        updated_at DATETIME NOT NULL,
        CONSTRAINT pk_webhook PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_webhook_tenant_id ON webhook (tenant, id)",
    """
    CREATE TABLE webhook_delivery (
        id VARCHAR NOT NULL,
        webhook_id VARCHAR NOT NULL,
        event VARCHAR NOT NULL,
        run_id VARCHAR,
        body VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        attempts INTEGER NOT NULL,
        tries VARCHAR NOT NULL,
        next_at DATETIME,
        give_up_at DATETIME NOT NULL,
        created_at DATETIME NOT NULL,
        finished_at DATETIME,
        CONSTRAINT pk_webhook_delivery PRIMARY KEY (id),
        CONSTRAINT fk_webhook_delivery_webhook_id FOREIGN KEY(webhook_id) REFERENCES webhook (id)
    )
    """,
    "CREATE INDEX ix_webhook_delivery_webhook_id_id ON webhook_delivery (webhook_id, id)",
    """
    CREATE INDEX ix_webhook_delivery_webhook_id_next_at ON webhook_delivery (webhook_id, next_at)
        WHERE next_at IS NOT NULL
    """,
    "CREATE INDEX ix_webhook_delivery_next_at ON webhook_delivery (next_at) WHERE next_at IS NOT NULL",
    "CREATE INDEX ix_webhook_delivery_finished_at ON webhook_delivery (finished_at)",
    "ALTER TABLE run ADD COLUMN stored_bytes BIGINT DEFAULT '0' NOT NULL",
    """
    UPDATE run SET stored_bytes = 64 * last_seq
        + coalesce((SELECT sum(length(text)) FROM log_record WHERE run_id = run.id), 0)
        + coalesce((SELECT sum(length(diff)) FROM state_commit WHERE run_id = run.id), 0)
        + coalesce((SELECT sum(length(state)) FROM checkpoint WHERE run_id = run.id), 0)
        + coalesce((SELECT sum(length(state)) FROM run_state WHERE run_id = run.id), 0)
    """,
    """
    CREATE TABLE tenant (
        tenant VARCHAR NOT NULL,
        quotas VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        created_at DATETIME NOT NULL,
        updated_at DATETIME NOT NULL,
        CONSTRAINT pk_tenant PRIMARY KEY (tenant)
    )
    """,
    """
    CREATE TABLE tenant_usage (
        tenant VARCHAR NOT NULL,
        day VARCHAR NOT NULL,
        cpu_s FLOAT NOT NULL,
        attempts INTEGER NOT NULL,
        CONSTRAINT pk_tenant_usage PRIMARY KEY (tenant, day)
    )
    """,
)


def upgrade() -> None:
    """Make it of the one before; all that the database holds stays."""
    execute(STATEMENTS)
