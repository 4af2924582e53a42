"""What becomes of the runs that an earlier process left in flight."""

from __future__ import annotations

from sqlalchemy import Connection, select

from sandgraph.model.commands import Command, RecordAttempt, RecordNodeRun, RecordRun
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.store import steps, tables

_IN_FLIGHT = [status.value for status in RunStatus if not status.is_final]

_RUN = Failure("interrupted", "The platform stopped before the run had ended.")
_NODE_RUN = Failure("interrupted", "The platform stopped while the node ran.")
_ATTEMPT = Failure(AttemptStatus.LOST.value, "The platform stopped while the attempt ran.")


def in_flight(connection: Connection) -> list[str]:
    """Return the ids of the runs that have not ended, oldest first."""
    run = tables.run.c
    return sorted(connection.scalars(select(run.id).where(run.status.in_(_IN_FLIGHT))))


def interrupt(connection: Connection, run_id: str) -> bool:
    """End a run that nobody works on any more, and all that was in progress in it; tell whether it had not ended."""
    status = connection.scalar(select(tables.run.c.status).where(tables.run.c.id == run_id))
    if status not in _IN_FLIGHT:
        return False
    tried, done = tables.attempt.c, tables.node_run.c
    commands: list[Command] = [
        RecordAttempt(NodeRunKey(row.node, row.iteration), row.attempt, AttemptStatus.LOST, _ATTEMPT)
        for row in connection.execute(
            select(tried.node, tried.iteration, tried.attempt)
            .where(tried.run_id == run_id, tried.status == AttemptStatus.RUNNING.value)
            .order_by(tried.node, tried.iteration)
        )
    ]
    commands += [
        RecordNodeRun(NodeRunKey(row.node, row.iteration), NodeRunStatus.INTERRUPTED, _NODE_RUN)
        for row in connection.execute(
            select(done.node, done.iteration)
            .where(done.run_id == run_id, done.status.in_([status.value for status in steps.IN_FLIGHT]))
            .order_by(done.first_seq)
        )
    ]
    steps.apply(connection, run_id, [*commands, RecordRun(RunStatus.INTERRUPTED, _RUN)], None)
    return True
