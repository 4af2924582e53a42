"""Runs: accepting them, and reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnDefault, Connection, Row, bindparam, func, insert, select

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.annotations import NO_ANNOTATIONS, Annotations
from sandgraph.model.commands import RecordRun
from sandgraph.model.journal import entries
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json
from sandgraph.store import annotations as noted
from sandgraph.store import journal, tables
from sandgraph.store.code import version_of
from sandgraph.store.columns import Encoded, now, to_json
from sandgraph.store.ids import new_id
from sandgraph.store.node_runs import failure_of
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import CodeKind, CodeVersion, GraphVersion, RunRecord, RunSummary
from sandgraph.telemetry import trace

# Made once: making one takes longer than SQLite needs to run it.
_RUN = select(tables.run, *noted.COLUMNS).select_from(noted.JOINED).where(tables.run.c.id == bindparam("run_id"))
_STATES = select(tables.run_state.c.kind, tables.run_state.c.state).where(
    tables.run_state.c.run_id == bindparam("run_id")
)
_STATUS = Prepared(select(tables.run.c.status).where(tables.run.c.id == bindparam("run_id")))
_INSERT_RUN = Prepared(insert(tables.run))
_INSERT_STATE = Prepared(insert(tables.run_state))
_INSERT_PINS = Prepared(insert(tables.run_code))

#: What the row of a run has where nothing else is said.
_BLANK = {
    column.name: column.default.arg if isinstance(column.default, ColumnDefault) else None for column in tables.run.c
}

_BEGUN = (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is made of.

    Attributes:
        graph: The version it executes.
        initial_state: Commit 0.
        functions: The versions it pins.
        tools: The versions it pins.
        image: The sandbox image it pins.
        idempotency_key: Makes a second request with it the same run.
        fingerprint: Of the request: another one under the same key is refused.
        traceparent: Of the request; that of whoever makes this.
        annotations: What is noted about it.
    """

    graph: GraphVersion
    initial_state: Mapping[str, Json]
    functions: Mapping[str, CodeVersion]
    tools: Mapping[str, CodeVersion]
    image: str
    idempotency_key: str | None = None
    fingerprint: str | None = None
    annotations: Annotations = NO_ANNOTATIONS
    traceparent: str | None = field(default_factory=trace.current_traceparent)

    def pins(self, run_id: str) -> list[dict[str, object]]:
        """Return the rows of what it pins."""
        return [
            {
                "run_id": run_id,
                "kind": kind.value,
                "name": name,
                "version": version.version,
                "tenant": self.graph.tenant,
            }
            for kind, versions in ((CodeKind.FUNCTION, self.functions), (CodeKind.TOOL, self.tools))
            for name, version in versions.items()
        ]


def create(connection: Connection, new: NewRun) -> tuple[RunRecord, bool]:
    """Store a run that is pending, or return the one that this key made before.

    Raises:
        Conflict: The key was used for something else.
    """
    known = known_by(connection, new)
    if known is not None:
        return known, False
    run_id, ts = new_id("run"), now()
    begin(connection, run_id, new, {"created_at": ts})
    events = list(entries([RecordRun(RunStatus.PENDING)]))
    journal.advance(connection, run_id, len(events), {})
    journal.insert_events(connection, run_id, 1, events, ts)
    return get(connection, run_id), True


def known_by(connection: Connection, new: NewRun) -> RunRecord | None:
    """Return the run that a new one's key made before.

    Raises:
        Conflict: The key was used for something else.
    """
    if new.idempotency_key is None:
        return None
    known = connection.execute(
        select(tables.run.c.id, tables.run.c.fingerprint).where(
            tables.run.c.tenant == new.graph.tenant, tables.run.c.idempotency_key == new.idempotency_key
        )
    ).first()
    if known is None:
        return None
    if known.fingerprint != new.fingerprint:
        message = "This idempotency key was used for another request; choose a new one."
        raise Conflict(message, code="idempotency_key_reused")
    return get(connection, known.id)


def begin(connection: Connection, run_id: str, new: NewRun, more: Mapping[str, object]) -> None:
    """Store the row of a run, pending unless there is ``more`` to say, its initial state and its pins."""
    initial = Encoded(to_json(dict(new.initial_state)))
    row = {
        **_BLANK,
        "id": run_id,
        "tenant": new.graph.tenant,
        "graph_id": new.graph.graph_id,
        "graph_name": new.graph.name,
        "status": RunStatus.PENDING.value,
        "image": new.image,
        "idempotency_key": new.idempotency_key,
        "fingerprint": new.fingerprint,
        "traceparent": new.traceparent,
        "last_seq": 0,
        "last_commit": 0,
        "stored_bytes": len(initial),
        **more,
    }
    _INSERT_RUN.run(connection, [row])
    _INSERT_STATE.run(connection, [{"run_id": run_id, "kind": "initial", "state": initial}])
    _INSERT_PINS.run(connection, new.pins(run_id))
    noted.add(connection, new.graph.tenant, run_id, new.annotations)


def get(connection: Connection, run_id: str) -> RunRecord:
    """Return a run with its states."""
    row = _row(connection, run_id)
    found = connection.execute(_STATES, {"run_id": run_id})
    states = {kind: state for kind, state in found}  # noqa: C416 - rows are no pairs to a type checker
    return RunRecord(**_fields(row), initial_state=states["initial"], final_state=states.get("final"))


def status(connection: Connection, run_id: str) -> RunStatus:
    """Return the status of a run."""
    found = _STATUS.scalar(connection, {"run_id": run_id})
    if found is None:
        raise NotFound("run", run_id)
    return RunStatus(found)


def summary(connection: Connection, run_id: str) -> RunSummary:
    """Return a run without its states."""
    return summary_of(_row(connection, run_id))


def summary_of(row: Row[Any]) -> RunSummary:
    """Make the run from its row, which has `annotations.COLUMNS` too."""
    return RunSummary(**_fields(row))


def pinned_code(connection: Connection, run_id: str) -> tuple[dict[str, CodeVersion], dict[str, CodeVersion]]:
    """Return the functions and the tools that a run pinned."""
    _row(connection, run_id)
    pin, code = tables.run_code.c, tables.code.c
    matches = (
        (pin.tenant == code.tenant) & (pin.kind == code.kind) & (pin.name == code.name) & (pin.version == code.version)
    )
    query = (
        select(tables.code)
        .join_from(tables.run_code, tables.code, matches)
        .where(pin.run_id == run_id)
        .order_by(pin.kind, pin.name)
    )
    pinned: dict[str, dict[str, CodeVersion]] = {kind.value: {} for kind in CodeKind}
    for row in connection.execute(query):
        pinned[row.kind][row.name] = version_of(row)
    return pinned[CodeKind.FUNCTION], pinned[CodeKind.TOOL]


def count(connection: Connection, *statuses: RunStatus) -> int:
    """Count the runs of these statuses; without any, all."""
    query = select(func.count()).select_from(tables.run)
    if statuses:
        query = query.where(tables.run.c.status.in_([status.value for status in statuses]))
    return connection.scalar(query) or 0


def load(connection: Connection, tenant: str, graph_name: str) -> int:
    """Count the runs of a graph's versions that were begun and have not ended."""
    run = tables.run.c
    query = select(func.count()).select_from(tables.run)
    is_begun = run.status.in_([status.value for status in _BEGUN])
    is_of_graph = (run.tenant == tenant) & (run.graph_name == graph_name)
    return connection.scalar(query.where(is_of_graph, run.finished_at.is_(None), is_begun)) or 0


def _row(connection: Connection, run_id: str) -> Row[Any]:
    row = connection.execute(_RUN, {"run_id": run_id}).first()
    if row is None or row.deleted_at is not None:
        raise NotFound("run", run_id)
    return row


def _fields(row: Row[Any]) -> dict[str, Any]:
    """Return what every picture of a run has."""
    return {
        "run_id": row.id,
        "tenant": row.tenant,
        "graph_id": row.graph_id,
        "graph_name": row.graph_name,
        "image": row.image,
        "status": RunStatus(row.status),
        "failure": failure_of(row.failure),
        "last_seq": row.last_seq,
        "last_commit": row.last_commit,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "owner": row.owner,
        "recoveries": row.recoveries,
        "paused": row.paused,
        "wake_at": row.wake_at,
        "forked_from": row.forked_from,
        "forked_at": row.forked_at,
        "traceparent": row.traceparent,
        "annotations": noted.annotations_of(row),
    }
