"""The spans of a run: the run, its attempts, and of each the wait for a slot, the lease, the work and the commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sandgraph.execution.jobs import RunPlan
from sandgraph.execution.transport import Assignment
from sandgraph.model.commands import RecordAttempt
from sandgraph.model.run import AttemptStatus, RunStatus, Usage
from sandgraph.store.records import RunSummary
from sandgraph.store.steps import Taken
from sandgraph.telemetry.spans import Attributes, Spans
from sandgraph.telemetry.trace import attempt_span, parse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Statuses that are nobody's fault.
_FINE_RUNS = frozenset({RunStatus.COMPLETED, RunStatus.CANCELLED})
_FINE_ATTEMPTS = frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.CANCELLED})


def record_run(spans: Spans, run: RunSummary) -> None:
    """Record a run that has ended, from when it was accepted on, whichever process did that."""
    span = run.trace
    if span is None or run.finished_at is None:
        return
    about = {
        **_of_run(run.run_id, run.tenant),
        "sandgraph.graph": run.graph_name,
        "sandgraph.graph_id": run.graph_id,
        "sandgraph.status": run.status.value,
        "sandgraph.recoveries": run.recoveries,
    }
    message = run.failure.message if run.failure else run.status.value
    spans.record(
        f"run {run.graph_name}",
        span,
        parse(run.traceparent),
        _ns(run.created_at),
        _ns(run.finished_at),
        about,
        error=None if run.status in _FINE_RUNS else message,
    )


def record_attempt(
    spans: Spans, assignment: Assignment, began_ns: int, ended_ns: int, status: AttemptStatus, used: Usage
) -> None:
    """Record an attempt that ended, and what it spent its time with."""
    span = assignment.trace
    if span is None:
        return
    about = {
        **_of_run(assignment.run_id, assignment.tenant),
        "sandgraph.node": assignment.key.node,
        "sandgraph.node_run": assignment.key.path,
        "sandgraph.iteration": assignment.key.iteration,
        "sandgraph.attempt": assignment.attempt,
        "sandgraph.status": status.value,
    }
    error = None if status in _FINE_ATTEMPTS else status.value
    run = span.named(assignment.run_id)
    spans.record(f"attempt {assignment.key.node}", span, run, began_ns, ended_ns, about, error=error)
    slot_ns = began_ns + round(used.queue_s * 1e9)
    lease_ns = slot_ns + round(used.start_s * 1e9)
    done_ns = lease_ns + round(used.wall_s * 1e9)
    parts = (("slot wait", began_ns, slot_ns), ("sandbox lease", slot_ns, lease_ns), ("execute", lease_ns, done_ns))
    for name, part_began, part_ended in parts:
        if part_ended > part_began:
            spans.record(name, span.new(), span, part_began, min(part_ended, ended_ns), about)


def record_commits(spans: Spans, plan: RunPlan, taken: Sequence[Taken], began_ns: int, ended_ns: int) -> None:
    """Record that the ends of attempts were stored."""
    run, run_id = plan.trace, plan.run_id
    if run is None:
        return
    for step in taken:
        for command in step.commands:
            if isinstance(command, RecordAttempt):
                span = attempt_span(run, run_id, command.key.path, command.attempt)
                spans.record("commit", span.new(), span, began_ns, ended_ns, _of_run(run_id, plan.tenant))


def _of_run(run_id: str, tenant: str) -> Attributes:
    return {"sandgraph.run": run_id, "sandgraph.tenant": tenant}


def _ns(at: datetime) -> int:
    passed = at - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1_000
