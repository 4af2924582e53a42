"""What becomes of the runs that nobody works on any more: the platform stopped, or gave them up."""

from __future__ import annotations

from sqlalchemy import Connection, and_, exists, or_, select

from sandgraph.model.commands import Command, RecordAttempt, RecordNodeRun, RecordRun
from sandgraph.model.journal import Entry
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.store import journal, leases, steps, tables
from sandgraph.store.columns import now
from sandgraph.store.steps import Taken

_IN_PROGRESS = [RunStatus.RUNNING.value, RunStatus.WAITING.value]

_RUN = Failure("interrupted", "The platform stopped before the run had ended.")
_NODE_RUN = Failure("interrupted", "The platform stopped while the node ran.")
_ATTEMPT = Failure(AttemptStatus.LOST.value, "The platform stopped while the attempt ran.")

_HANDED_BACK = Entry(
    "run", RunStatus.INTERRUPTED, "The platform stopped; the run goes on once it is back.", data={"resumes": True}
)


def in_flight(connection: Connection) -> list[str]:
    """Return the ids of the runs that have not ended, oldest first."""
    return sorted([*in_progress(connection), *in_line(connection)])


def in_progress(connection: Connection) -> list[str]:
    """Return the ids of the runs that somebody worked on, oldest first."""
    run = tables.run.c
    return sorted(connection.scalars(select(run.id).where(run.status.in_(_IN_PROGRESS))))


def in_line(connection: Connection) -> list[str]:
    """Return the ids of the runs that wait for their turn, to begin or to be resumed, oldest first."""
    run = tables.run.c
    is_handed_back = and_(run.status == RunStatus.INTERRUPTED.value, run.finished_at.is_(None))
    return sorted(connection.scalars(select(run.id).where(or_(run.status == RunStatus.PENDING.value, is_handed_back))))


def interrupt(connection: Connection, run_id: str) -> bool:
    """End a run for good, and all that was in progress in it; tell whether it had not ended."""
    return end(connection, run_id, RecordRun(RunStatus.INTERRUPTED, _RUN))


def end(connection: Connection, run_id: str, as_: RecordRun, lease: int | None = None) -> bool:
    """End a run that nobody works on, and all that was in progress in it; tell whether it had not ended.

    Raises:
        Conflict: The lease is over.
    """
    if not _is_open(connection, run_id):
        return False
    node_runs = _node_runs(connection, run_id)
    steps.apply(connection, run_id, [Taken([*_attempts(connection, run_id), *node_runs, as_])], lease)
    return True


def hand_back(connection: Connection, run_id: str) -> bool:
    """Mark a run that is in progress as interrupted until it is resumed, or leave it waiting; tell whether it waits.

    One that was not told its events by this release, which stores them, is interrupted for good.
    """
    run = tables.run.c
    row = connection.execute(select(run.status, run.parked).where(run.id == run_id)).one()
    if not connection.scalar(select(exists().where(tables.run_event.c.run_id == run_id))):
        interrupt(connection, run_id)
        return False
    attempts = _attempts(connection, run_id)
    if row.status == RunStatus.WAITING.value and not attempts:
        if not row.parked:
            # What it waits for is known to it alone, and may have come.
            leases.wake(connection, run_id, now())
        return True
    # What is inside a subgraph or waits, for an event or the next attempt, is as it was.
    tried = {attempt.key: None for attempt in attempts}
    ends = [RecordNodeRun(key, NodeRunStatus.INTERRUPTED, _NODE_RUN) for key in tried]
    steps.apply(connection, run_id, [Taken([*attempts, *ends])])
    journal.append_event(connection, run_id, _HANDED_BACK, {"status": RunStatus.INTERRUPTED.value})
    leases.release(connection, run_id)
    return False


def resume(connection: Connection, run_id: str, limit: int, image: str) -> bool:
    """Count one more recovery of an interrupted run and call it running; with more than ``limit`` it fails.

    Returns:
        Whether it goes on.
    """
    run = tables.run.c
    row = connection.execute(select(run.recoveries, run.image).where(run.id == run_id)).one()
    if row.recoveries >= limit:
        message = f"The platform stopped {row.recoveries + 1} times while the run was in progress; {limit} are allowed."
        end(connection, run_id, RecordRun(RunStatus.FAILED, Failure("too_many_recoveries", message)))
        return False
    data = {"recovery": row.recoveries + 1, **({"image": image} if image != row.image else {})}
    entry = Entry("run", RunStatus.RUNNING, "The run goes on where the platform stopped.", data=data)
    changes = {"status": RunStatus.RUNNING.value, "recoveries": row.recoveries + 1}
    journal.append_event(connection, run_id, entry, changes)
    return True


def _is_open(connection: Connection, run_id: str) -> bool:
    row = tables.run.c
    return bool(connection.scalar(select(exists().where(row.id == run_id, row.finished_at.is_(None)))))


def _attempts(connection: Connection, run_id: str) -> list[RecordAttempt]:
    tried = tables.attempt.c
    query = (
        select(tried.scope, tried.node, tried.iteration, tried.attempt)
        .where(tried.run_id == run_id, tried.status == AttemptStatus.RUNNING.value)
        .order_by(tried.scope, tried.node, tried.iteration)
    )
    return [
        RecordAttempt(NodeRunKey(row.node, row.iteration, row.scope), row.attempt, AttemptStatus.LOST, _ATTEMPT)
        for row in connection.execute(query)
    ]


def _node_runs(connection: Connection, run_id: str) -> list[Command]:
    done = tables.node_run.c
    query = (
        select(done.scope, done.node, done.iteration)
        .where(done.run_id == run_id, done.status.in_([status.value for status in steps.IN_FLIGHT]))
        .order_by(done.first_seq)
    )
    return [
        RecordNodeRun(NodeRunKey(row.node, row.iteration, row.scope), NodeRunStatus.INTERRUPTED, _NODE_RUN)
        for row in connection.execute(query)
    ]
