"""Stored records as the plain documents that clients get; `schemas.answers` describes each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime

from sandgraph.api.services import EventReceipt, Outcome, Place, Replayed, RunState, Writer
from sandgraph.model.access import Principal
from sandgraph.model.annotations import Annotations
from sandgraph.model.api_key import ApiKey
from sandgraph.model.document import to_document
from sandgraph.model.log_filter import level_of
from sandgraph.model.run import AttemptStatus, Failure, RunStatus, Usage
from sandgraph.store.records import (
    AttemptRecord,
    CodeVersion,
    CommitRecord,
    GraphVersion,
    JournalRecord,
    NodeRunRecord,
    Reads,
    RunSummary,
    Standing,
)
from sandgraph.telemetry.trace import SpanRef

Document = dict[str, object]

_NAMES = {kind: [field.name for field in fields(kind)] for kind in (Failure, Usage)}


def code_view(version: CodeVersion) -> Document:
    """Return a function's or tool's version, without its code."""
    return {
        "name": version.name,
        "version": version.version,
        "hash": version.hash,
        "description": version.description,
        "created_at": _time(version.created_at),
    }


def source_view(version: CodeVersion) -> Document:
    """Return a function's or tool's version with its code."""
    return {**code_view(version), "code": version.code}


def graph_summary(version: GraphVersion) -> Document:
    """Return a graph version as a list shows it."""
    return {
        "graph_id": version.graph_id,
        "name": version.name,
        "version": version.version,
        "created_at": _time(version.created_at),
        "node_count": len(version.graph.nodes),
        "edge_count": len(version.graph.edges),
    }


def graph_view(version: GraphVersion) -> Document:
    """Return a graph version with its document, which makes the same graph again."""
    return {**graph_summary(version), "graph": to_document(version.graph)}


def run_summary(run: RunSummary) -> Document:
    """Return a run as a list shows it."""
    return {
        "run_id": run.run_id,
        "graph_id": run.graph_id,
        "graph_name": run.graph_name,
        "status": run.status.value,
        "error": _error(run.failure),
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "duration_ms": _between(run.started_at, run.finished_at),
        "last_seq": run.last_seq,
        "last_commit": run.last_commit,
        "paused": run.paused,
        "forked_from": _forked_from(run),
        "recoveries": run.recoveries,
        "trace": _trace(run.trace),
        **_annotations(run.annotations),
    }


def run_view(standing: Standing, *, place: Place | None = None) -> Document:
    """Return a run with what its nodes did.

    Args:
        standing: Where it stands, with all of its node runs or a page.
        place: Where it stands while it waits for its turn.
    """
    return {
        **run_summary(standing.run),
        "queue": {"position": place.position, "waits_for": place.waits_for} if place else None,
        "current_nodes": list(dict.fromkeys(each.node for each in standing.in_progress)),
        "node_runs": [_node_run(each) for each in standing.node_runs],
        "next_cursor": str(standing.node_runs[-1].first_seq) if standing.has_more else None,
    }


def outcome_view(run: RunSummary, data: Mapping[str, object], node_runs: Sequence[NodeRunRecord]) -> Document:
    """Return what a run that ended came to."""
    return {
        "run_id": run.run_id,
        "graph_id": run.graph_id,
        "status": run.status.value,
        "final_state": {"run_id": run.run_id, "data": data, "execution_log": execution_log(node_runs)},
        "error": _error(run.failure),
        **_annotations(run.annotations),
    }


def accepted_view(run: RunSummary, message: str) -> Document:
    """Return what is known of a run that was just accepted: to its client it runs, though it may wait its turn."""
    status = run.status if run.is_final else RunStatus.RUNNING
    return {
        "run_id": run.run_id,
        "graph_id": run.graph_id,
        "status": status.value,
        "message": message,
        **_annotations(run.annotations),
    }


def forked_view(run: RunSummary, message: str) -> Document:
    """Return what is known of a run that was just made from another one."""
    return {**accepted_view(run, message), "forked_from": _forked_from(run)}


def annotations_view(run_id: str, annotations: Annotations) -> Document:
    """Return what is noted about a run."""
    return {"run_id": run_id, **_annotations(annotations)}


def event_view(receipt: EventReceipt) -> Document:
    """Return an event that is kept."""
    return {
        "run_id": receipt.run_id,
        "name": receipt.name,
        "event_id": receipt.event_id,
        "status": "accepted" if receipt.is_new else "duplicate",
    }


def state_view(run: RunSummary, state: RunState) -> Document:
    """Return a run's state."""
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "commit": state.commit,
        "data": state.data,
        "conflicts": list(state.conflicts),
        "writers": {key: _writer(each) for key, each in state.writers.items() if key in state.data},
    }


def commit_view(commit: CommitRecord) -> Document:
    """Return a commit of a run's history."""
    return {
        "number": commit.number,
        "parents": list(commit.parents),
        "node": commit.node,
        "iteration": commit.iteration,
        "scope": commit.scope,
        "attempt": commit.attempt,
        "diff": commit.diff.to_json(),
        "merged": commit.merged.to_json(),
        "created_at": _time(commit.created_at),
    }


def replay_view(replayed: Replayed) -> Document:
    """Return an attempt that was tried again."""
    recorded, now = replayed.images
    return {
        "run_id": replayed.run_id,
        "node": replayed.key.node,
        "iteration": replayed.key.iteration,
        "scope": replayed.key.scope,
        "attempt": replayed.attempt,
        "drift": list(replayed.drift),
        "recorded": _outcome(replayed.recorded),
        "replayed": _outcome(replayed.replayed),
        "images": {"recorded": recorded, "replayed": now},
    }


def execution_log(node_runs: Sequence[NodeRunRecord]) -> list[Document]:
    """Return every attempt in order of its start; a node run without attempts has an entry of its own."""
    entries: list[tuple[datetime, Document]] = []
    for node_run in node_runs:
        for attempt in node_run.attempts:
            said = attempt.failure.message if attempt.failure else node_run.message
            entries.append((attempt.started_at, _entry(node_run, attempt, said, attempt.attempt, attempt.usage)))
        if not node_run.attempts:
            entries.append((node_run.started_at, _entry(node_run, node_run, node_run.message, None, None)))
    # Stable: what began in one instant stays in the order in which the run came to it.
    return [entry for _, entry in sorted(entries, key=lambda each: each[0])]


def record_view(record: JournalRecord) -> Document:
    """Return a record of a run's journal; the run's own end is marked as the last one."""
    is_last, is_line = record.is_end, record.kind == "log"
    return {
        "seq": record.seq,
        "ts": _time(record.ts),
        "kind": record.kind,
        "type": "end" if is_last else record.type,
        "node": record.node,
        "iteration": record.iteration,
        # An edge is no node run: it has its scope among the rest.
        "scope": record.scope or record.data.get("scope", ""),
        "attempt": record.attempt,
        "status": record.status,
        "message": record.message,
        "stream": record.type if is_line else None,
        "level": level_of(record.type, record.message).value if is_line else None,
        "data": record.data,
        "trace": _trace(record.trace),
        "final": is_last,
        # What is missing is said at the top: from which number, to which, and why.
        **(record.data if record.kind == "gap" else {}),
    }


def end_record(run: RunSummary) -> JournalRecord:
    """Return the last record of a run that ended, made from the run itself."""
    failure = run.failure
    return JournalRecord(
        seq=run.last_seq,
        ts=run.finished_at or run.created_at,
        kind="event",
        type="run",
        node=None,
        iteration=None,
        attempt=None,
        status=run.status.value,
        message=f"The run {run.status}: {failure.message}" if failure else f"The run is {run.status}.",
        data={},
    )


def _trace(span: SpanRef | None) -> Document | None:
    return {"trace_id": span.trace_id, "span_id": span.span_id} if span else None


def _node_run(node_run: NodeRunRecord) -> Document:
    return {
        "node": node_run.node,
        "iteration": node_run.iteration,
        "scope": node_run.scope,
        "status": node_run.status.value,
        "message": node_run.message,
        "error": _error(node_run.failure),
        "started_at": _time(node_run.started_at),
        "finished_at": _time(node_run.finished_at),
        "duration_ms": _between(node_run.started_at, node_run.finished_at),
        "attempts": [
            {
                "attempt": attempt.attempt,
                "status": attempt.status.value,
                "error": _error(attempt.failure),
                "usage": _usage(attempt.usage),
                "reads": _reads(attempt.reads),
                "started_at": _time(attempt.started_at),
                "finished_at": _time(attempt.finished_at),
                "duration_ms": _between(attempt.started_at, attempt.finished_at),
            }
            for attempt in node_run.attempts
        ],
    }


def _entry(
    node_run: NodeRunRecord,
    timed: AttemptRecord | NodeRunRecord,
    message: str,
    attempt: int | None,
    usage: Usage | None,
) -> Document:
    return {
        "node": node_run.node,
        "iteration": node_run.iteration,
        "scope": node_run.scope,
        "attempt": attempt,
        "status": timed.status.value,
        "started_at": _time(timed.started_at),
        "finished_at": _time(timed.finished_at),
        "duration_ms": _between(timed.started_at, timed.finished_at),
        "usage": _usage(usage),
        "message": message,
        "error": _error(timed.failure),
    }


def _annotations(annotations: Annotations) -> Document:
    return {"tags": list(annotations.tags), "metadata": dict(annotations.metadata)}


def _forked_from(run: RunSummary) -> Document | None:
    return None if run.forked_from is None else {"run_id": run.forked_from, "at": run.forked_at}


def _writer(writer: Writer) -> Document:
    key = writer.key
    return {
        "commit": writer.commit,
        "node": key.node if key else None,
        "iteration": key.iteration if key else None,
        "scope": key.scope if key else "",
        "attempt": writer.attempt,
    }


def _outcome(outcome: Outcome) -> Document:
    conditions = {"entered": outcome.entered, "again": outcome.again, "after": list(outcome.after)}
    return {
        "status": outcome.status.value,
        "diff": outcome.diff.to_json(),
        "conditions": conditions if outcome.status is AttemptStatus.SUCCEEDED else None,
        "value": outcome.value,
        "error": _error(outcome.failure),
    }


def _reads(reads: Reads | None) -> Document | None:
    return {"keys": list(reads.keys), "cut": reads.cut} if reads else None


def _error(failure: Failure | None) -> Document | None:
    return _fields(failure) if failure else None


def _fields(record: Failure | Usage) -> Document:
    """Return what a record of plain values holds."""
    return {name: getattr(record, name) for name in _NAMES[type(record)]}


def _usage(usage: Usage | None) -> Document | None:
    return _fields(usage) if usage else None


def key_view(key: ApiKey) -> Document:
    """Return an API key; there is nothing of its secret in it."""
    return {
        "key_id": key.key_id,
        "prefix": key.prefix,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": _time(key.created_at),
        "created_by": key.created_by,
        "expires_at": _time(key.expires_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
    }


def admission_view(principal: Principal, expires_at: datetime | None, *, is_open: bool) -> Document:
    """Return who asks, until when they may, and whether anybody may."""
    return {
        "tenant": principal.tenant,
        "subject": principal.subject,
        "scopes": sorted(principal.scopes),
        "key_id": principal.key_id,
        "expires_at": _time(expires_at),
        "open": is_open,
    }


def ticket_view(ticket: str, path: str, expires_at: datetime) -> Document:
    """Return a ticket."""
    return {"ticket": ticket, "path": path, "expires_at": _time(expires_at)}


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is not None and moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds() * 1000, 3) if start and end else None
