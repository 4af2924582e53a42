"""The tables.

Statements are Core's: these classes declare the schema, and validate nothing (a table class of SQLModel never does).
Rows that change often are narrow: SQLite writes a changed row anew as a whole, so states and diffs have tables of their
own. What a step writes has no row ids: with one tree a table instead of two, it dirties fewer pages.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    UniqueConstraint,
    text,
)
from sqlmodel import AutoString, Field

from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.store.columns import TEXT, JsonText, SafeText, UtcTime
from sandgraph.store.table import Table
from sandgraph.store.tenant_tables import TenantRow, TenantUsageRow

#: Raised by one with every change of the schema.
SCHEMA_VERSION = 4


def _index_of(condition: str, *columns: str) -> Index:
    """Return an index of the rows of which a condition holds."""
    return Index(None, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


#: Of columns that older rows do not have.
_ZERO = {"server_default": "0"}
_ONE = {"server_default": "1"}
_EMPTY = {"server_default": ""}
_DEFAULT_TENANT = {"server_default": DEFAULT_TENANT}


class ProcessRow(Table, table=True):
    """The process that works on this database: whoever has no row here any more may not write."""

    __tablename__ = "process"

    id: str = Field(primary_key=True, sa_type=SafeText)
    started_at: datetime = Field(sa_type=UtcTime)
    heartbeat_at: datetime | None = Field(sa_type=UtcTime, description="None while it does not promise any.")


class AlembicVersionRow(Table, table=True):
    """The schema's revision, as Alembic keeps it."""

    __tablename__ = "alembic_version"

    version_num: str = Field(primary_key=True, max_length=32)


class CodeRow(Table, table=True):
    """A version of a function or a tool."""

    __tablename__ = "code"
    __table_args__ = (Index(None, "tenant", "kind", "created_at", "name"),)

    tenant: str = Field(DEFAULT_TENANT, primary_key=True, sa_column_kwargs=_DEFAULT_TENANT)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True, sa_type=SafeText)
    version: int = Field(primary_key=True)
    hash: str
    code: str = Field(sa_type=SafeText)
    description: str = Field(sa_type=SafeText)
    created_at: datetime = Field(sa_type=UtcTime)


class GraphRow(Table, table=True):
    """A version of a graph."""

    __tablename__ = "graph"
    __table_args__ = (
        UniqueConstraint("tenant", "name", "version"),
        Index(None, "tenant", "id"),
        Index(None, "tenant", "name", "id"),
    )

    id: str = Field(primary_key=True, sa_type=SafeText)
    tenant: str = Field(DEFAULT_TENANT, sa_column_kwargs=_DEFAULT_TENANT)
    name: str = Field(sa_type=SafeText)
    version: int
    document: dict[str, object] = Field(sa_type=JsonText)
    created_at: datetime = Field(sa_type=UtcTime)


class RunRow(Table, table=True):
    """A run: what changes, and what lists show."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        Index(None, "status", "id"),
        Index(None, "tenant", "id"),
        Index(None, "tenant", "status", "id"),
        Index(None, "graph_id", "id"),
        Index(None, "graph_id", "status", "id"),
        # Only of few rows: most runs have not failed, have ended, or wait for nothing.
        _index_of("failure_code IS NOT NULL", "tenant", "failure_code", "id"),
        _index_of("finished_at IS NULL", "tenant", "graph_name", "status"),
        _index_of("wake_at IS NOT NULL", "wake_at", "id"),
        # Of lists: by what they are filtered, and in the order in which they are shown.
        Index(None, "tenant", "graph_name", "id"),
        _index_of("finished_at IS NOT NULL", "tenant", "finished_at", "id"),
        _index_of("forked_from IS NOT NULL", "tenant", "forked_from", "id"),
        Index(
            "ix_run_tenant_id_paused",
            "tenant",
            "id",
            sqlite_where=text("paused IS 1"),
            postgresql_where=text("paused IS true"),
        ),
        _index_of("deleted_at IS NOT NULL", "deleted_at"),
    )

    id: str = Field(primary_key=True, sa_type=SafeText)
    tenant: str = Field(DEFAULT_TENANT, sa_column_kwargs=_DEFAULT_TENANT)
    graph_id: str = Field(foreign_key="graph.id", sa_type=SafeText)
    graph_name: str = Field(sa_type=SafeText)
    status: str
    failure: dict[str, object] | None = Field(sa_type=JsonText)
    failure_code: str | None = Field(sa_type=SafeText, description="Of the failure, to be searched for.")
    image: str = Field(sa_type=SafeText)
    idempotency_key: str | None = Field(sa_type=SafeText)
    fingerprint: str | None = Field(sa_type=SafeText)
    last_seq: int
    last_commit: int
    stored_bytes: int = Field(
        0, sa_type=BigInteger, sa_column_kwargs=_ZERO, description="Of its states, diffs, lines and events."
    )
    recoveries: int = Field(0, sa_column_kwargs=_ZERO)
    lease: int = Field(0, sa_column_kwargs=_ZERO, description="Raised whenever somebody else begins to work on it.")
    owner: str | None = Field(sa_type=SafeText, description="Who works on it.")
    paused: bool = Field(default=False, sa_column_kwargs=_ZERO)
    parked: bool = Field(default=False, sa_column_kwargs=_ZERO, description="Whether it waits and nobody works on it.")
    wake_at: datetime | None = Field(sa_type=UtcTime, description="When a parked run goes on even without an event.")
    forked_from: str | None = Field(sa_type=SafeText)
    forked_at: int | None = Field(description="Number of the checkpoint at which this one goes its own way.")
    logs_kept_from: int = Field(1, sa_column_kwargs=_ONE, description="No line with a lower number is kept.")
    logs_removed: int = Field(0, sa_column_kwargs=_ZERO, description="How many lines there were below that.")
    deleted_at: datetime | None = Field(sa_type=UtcTime, description="Since when it is there no more but for its rows.")
    traceparent: str | None = Field(sa_type=SafeText, description="Of the request that made it, as W3C writes it.")
    created_at: datetime = Field(sa_type=UtcTime)
    started_at: datetime | None = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(sa_type=UtcTime)


class RunStateRow(Table, table=True):
    """A state of a run that no diff tells: ``initial`` or ``final``."""

    __tablename__ = "run_state"
    __table_args__ = (CheckConstraint("kind IN ('initial', 'final')", name="kind"),)

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    kind: str = Field(primary_key=True)
    state: dict[str, object] = Field(sa_type=JsonText)


class RunCodeRow(Table, table=True):
    """The version of a function or tool that a run pinned when it was accepted."""

    __tablename__ = "run_code"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "kind", "name", "version"], ["code.tenant", "code.kind", "code.name", "code.version"]
        ),
        {"sqlite_with_rowid": False},
    )

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True, sa_type=SafeText)
    version: int
    tenant: str = Field(DEFAULT_TENANT, sa_column_kwargs=_DEFAULT_TENANT)


class RunAnnotationRow(Table, table=True):
    """What people noted about a run; only of those about which somebody did."""

    __tablename__ = "run_annotation"

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    tags: list[str] = Field(sa_type=JsonText)
    notes: dict[str, str] = Field(sa_type=JsonText, description="Its metadata.")
    revision: int


class RunTagRow(Table, table=True):
    """A tag of a run, to be searched for."""

    __tablename__ = "run_tag"
    __table_args__ = (Index(None, "tenant", "tag", "run_id"), {"sqlite_with_rowid": False})

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    tag: str = Field(primary_key=True, sa_type=SafeText)
    tenant: str


class KeptAnswerRow(Table, table=True):
    """What a request with an Idempotency-Key was answered, for the next one with it; runs know their own keys."""

    __tablename__ = "kept_answer"
    __table_args__ = (Index(None, "created_at"),)

    tenant: str = Field(primary_key=True)
    route: str = Field(primary_key=True, sa_type=SafeText)
    key: str = Field(primary_key=True, sa_type=SafeText)
    fingerprint: str = Field(description="Of the request.")
    status: int
    headers: dict[str, str] = Field(sa_type=JsonText)
    body: str = Field(sa_type=SafeText)
    created_at: datetime = Field(sa_type=UtcTime)


class NodeRunRow(Table, table=True):
    """One node in one iteration."""

    __tablename__ = "node_run"
    __table_args__ = (Index(None, "run_id", "first_seq"), {"sqlite_with_rowid": False})

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    scope: str = Field("", primary_key=True, sa_type=SafeText, sa_column_kwargs=_EMPTY)
    node: str = Field(primary_key=True, sa_type=SafeText)
    iteration: int = Field(primary_key=True)
    first_seq: int = Field(description="Number of its first record in the journal: the order of start.")
    status: str
    message: str = Field(sa_type=SafeText)
    failure: dict[str, object] | None = Field(sa_type=JsonText)
    started_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(sa_type=UtcTime)


class AttemptRow(Table, table=True):
    """One try of a node run."""

    __tablename__ = "attempt"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "scope", "node", "iteration"],
            ["node_run.run_id", "node_run.scope", "node_run.node", "node_run.iteration"],
        ),
        # Only of few rows: whose output was cut.
        _index_of("status = 'output_limit'", "run_id", "status"),
        {"sqlite_with_rowid": False},
    )

    run_id: str = Field(primary_key=True, sa_type=SafeText)
    scope: str = Field("", primary_key=True, sa_type=SafeText, sa_column_kwargs=_EMPTY)
    node: str = Field(primary_key=True, sa_type=SafeText)
    iteration: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    status: str
    failure: dict[str, object] | None = Field(sa_type=JsonText)
    usage: dict[str, object] | None = Field(sa_type=JsonText)
    reads: dict[str, object] | None = Field(sa_type=JsonText)
    started_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(sa_type=UtcTime)


class StateCommitRow(Table, table=True):
    """A state commit."""

    __tablename__ = "state_commit"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "scope", "node", "iteration"],
            ["node_run.run_id", "node_run.scope", "node_run.node", "node_run.iteration"],
        ),
        ForeignKeyConstraint(
            ["run_id", "scope", "node", "iteration", "attempt"],
            ["attempt.run_id", "attempt.scope", "attempt.node", "attempt.iteration", "attempt.attempt"],
        ),
        # A state diff is committed once, by one attempt.
        UniqueConstraint("run_id", "scope", "node", "iteration"),
        {"sqlite_with_rowid": False},
    )

    run_id: str = Field(primary_key=True, sa_type=SafeText)
    number: int = Field(primary_key=True)
    trunk: int | None = Field(description="None where an earlier release stored it, which had none.")
    parents: list[int] = Field(sa_type=JsonText)
    scope: str = Field("", sa_type=SafeText, sa_column_kwargs=_EMPTY)
    node: str = Field(sa_type=SafeText)
    iteration: int
    attempt: int | None
    diff: list[dict[str, object]] = Field(sa_type=JsonText)
    merged: list[dict[str, object]] | None = Field(sa_type=JsonText)
    merged_writers: dict[str, int] | None = Field(sa_type=JsonText, description="Of its keys: which commits they are.")
    created_at: datetime = Field(sa_type=UtcTime)


class CheckpointRow(Table, table=True):
    """The whole state after a commit, now and then, so that no state of the past is far from one."""

    __tablename__ = "checkpoint"

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    number: int = Field(primary_key=True)
    state: dict[str, object] = Field(sa_type=JsonText)
    writers: dict[str, int] = Field(sa_type=JsonText)


class RunEventRow(Table, table=True):
    """An event that the scheduler was told, as `model.event_document` writes it: of them all, a run is made again."""

    __tablename__ = "run_event"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    number: int = Field(primary_key=True)
    document: dict[str, object] = Field(sa_type=JsonText)
    diff_of: int | None = Field(description="Number of the commit that it made.")
    created_at: datetime = Field(sa_type=UtcTime)


class ReceivedEventRow(Table, table=True):
    """An event that somebody sent a run; ``told`` is the number of the `RunEventRow` under which it was told that."""

    __tablename__ = "received_event"
    __table_args__ = (UniqueConstraint("run_id", "event_id"),)

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    number: int = Field(primary_key=True)
    told: int | None
    event_id: str = Field(sa_type=SafeText)
    name: str = Field(sa_type=SafeText)
    payload: object = Field(nullable=True, sa_type=JsonText)
    created_at: datetime = Field(sa_type=UtcTime)


class EventRow(Table, table=True):
    """Events of a run's journal that follow one another and have one time, as `packs` writes them.

    They share their numbers with `LogRecordRow`. A step makes some six of them: one row takes a fifth of the time and
    of the pages of six.
    """

    __tablename__ = "event"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    seq: int = Field(primary_key=True, description="Number of the last of them.")
    ts: datetime = Field(sa_type=UtcTime)
    entries: list[object] = Field(sa_type=JsonText)


class LogRecordRow(Table, table=True):
    """A line that submitted code printed."""

    __tablename__ = "log_record"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: str = Field(primary_key=True, foreign_key="run.id", sa_type=SafeText)
    seq: int = Field(primary_key=True)
    ts: datetime = Field(sa_type=UtcTime)
    scope: str = Field("", sa_type=SafeText, sa_column_kwargs=_EMPTY)
    node: str = Field(sa_type=SafeText)
    iteration: int
    attempt: int
    stream: str = Field(sa_type=SafeText)
    elapsed_s: float
    text: str = Field(sa_type=SafeText)
    is_cut: bool


class ApiKeyRow(Table, table=True):
    """An API key, without its secret."""

    __tablename__ = "api_key"
    __table_args__ = (Index(None, "tenant", "id"),)

    id: str = Field(primary_key=True, sa_type=SafeText)
    tenant: str
    name: str = Field(sa_type=SafeText)
    scopes: list[str] = Field(sa_type=JsonText)
    digest: str = Field(description="SHA-256 of its secret, in hexadecimal.")
    created_at: datetime = Field(sa_type=UtcTime)
    created_by: str = Field(sa_type=SafeText)
    expires_at: datetime | None = Field(sa_type=UtcTime)
    last_used_at: datetime | None = Field(sa_type=UtcTime)
    revoked_at: datetime | None = Field(sa_type=UtcTime)


class WebhookRow(Table, table=True):
    """An endpoint that is told of runs that end."""

    __tablename__ = "webhook"
    __table_args__ = (Index(None, "tenant", "id"),)

    id: str = Field(primary_key=True, sa_type=SafeText)
    tenant: str
    url: str = Field(sa_type=SafeText)
    events: list[str] = Field(sa_type=JsonText)
    graph: str | None = Field(sa_type=SafeText, description="Name of the graphs whose runs it is told of; None: all.")
    description: str = Field(sa_type=SafeText)
    secret: str
    old_secret: str | None = Field(description="The one before, which signs too until its time is over.")
    old_secret_until: datetime | None = Field(sa_type=UtcTime)
    is_enabled: bool
    disabled_reason: str | None
    version: int
    failures: int
    closed_until: datetime | None = Field(sa_type=UtcTime)
    pending: int
    dropped: int
    created_at: datetime = Field(sa_type=UtcTime)
    updated_at: datetime = Field(sa_type=UtcTime)


class WebhookDeliveryRow(Table, table=True):
    """Something that a webhook is told. It outlives neither the webhook nor its time; the run may go before it."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        Index(None, "webhook_id", "id"),
        # Only of few rows: most are made.
        Index(
            None,
            "webhook_id",
            "next_at",
            sqlite_where=text("next_at IS NOT NULL"),
            postgresql_where=text("next_at IS NOT NULL"),
        ),
        Index(None, "next_at", sqlite_where=text("next_at IS NOT NULL"), postgresql_where=text("next_at IS NOT NULL")),
        Index(None, "finished_at"),
    )

    id: str = Field(primary_key=True, sa_type=SafeText)
    webhook_id: str = Field(foreign_key="webhook.id", sa_type=SafeText)
    event: str
    run_id: str | None = Field(sa_type=SafeText)
    body: str = Field(sa_type=SafeText)
    status: str
    attempts: int
    tries: list[dict[str, object]] = Field(sa_type=JsonText)
    next_at: datetime | None = Field(sa_type=UtcTime)
    give_up_at: datetime = Field(sa_type=UtcTime)
    created_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(sa_type=UtcTime)


METADATA: MetaData = Table.metadata
_TABLES = METADATA.tables

for _column in [column for table in _TABLES.values() for column in table.columns]:
    # On PostgreSQL an INTEGER ends at two thousand millions, and text is ordered as its language has it.
    if type(_column.type) is Integer:
        _column.type = Integer().with_variant(BigInteger(), "postgresql")
    elif type(_column.type) is AutoString:
        _column.type = TEXT

alembic_version = _TABLES["alembic_version"]
process = _TABLES["process"]
code = _TABLES["code"]
graph = _TABLES["graph"]
run = _TABLES["run"]
run_state = _TABLES["run_state"]
run_code = _TABLES["run_code"]
run_annotation = _TABLES["run_annotation"]
run_tag = _TABLES["run_tag"]
kept_answer = _TABLES["kept_answer"]
node_run = _TABLES["node_run"]
attempt = _TABLES["attempt"]
state_commit = _TABLES["state_commit"]
checkpoint = _TABLES["checkpoint"]
run_event = _TABLES["run_event"]
received_event = _TABLES["received_event"]
event = _TABLES["event"]
log_record = _TABLES["log_record"]
api_key = _TABLES["api_key"]
webhook = _TABLES["webhook"]
webhook_delivery = _TABLES["webhook_delivery"]
tenant = _TABLES[str(TenantRow.__tablename__)]
tenant_usage = _TABLES[str(TenantUsageRow.__tablename__)]
