"""A step of a run, in one transaction: what the scheduler decided becomes rows, and the journal says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import cast

from sqlalchemy import Connection, bindparam, insert, update

from sandgraph.errors import Conflict
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordNodeRun,
    RecordPause,
    RecordRun,
    StartAttempt,
)
from sandgraph.model.journal import Entry, entries
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import State
from sandgraph.store import checkpoints, journal, received_events, run_events, tables, webhooks
from sandgraph.store.columns import Encoded, now, to_json
from sandgraph.store.records import Reads, RunEvent
from sandgraph.store.rows import ATTEMPTS, NODE_RUNS, Rows, Values

IN_FLIGHT = {NodeRunStatus.RUNNING, NodeRunStatus.WAITING, NodeRunStatus.RETRYING}

#: A node run begins with one of these, unless it goes on: then an attempt is started.
_BEGINNINGS = {NodeRunStatus.RUNNING, NodeRunStatus.WAITING, NodeRunStatus.SKIPPED}

_USAGE = (
    update(tables.attempt)
    .where(*(tables.attempt.c[name] == bindparam(f"key_{name}") for name in ("run_id", *ATTEMPTS.key)))
    .where(tables.attempt.c.usage.is_(None))
    .values(usage=bindparam("new_usage", type_=tables.attempt.c.usage.type))
)


#: `asdict` copies what it finds, which numbers do not need.
_USED = tuple(each.name for each in fields(Usage))


@dataclass(slots=True)
class Step:
    """The rows of one step, or of many.

    Attributes:
        ts: When it is stored.
        run: What changes in the run's own row.
    """

    ts: datetime
    run: Values = field(default_factory=dict)
    final_state: State | None = None
    final: Values = field(default_factory=dict)
    node_runs: Rows = field(default_factory=lambda: Rows(NODE_RUNS))
    attempts: Rows = field(default_factory=lambda: Rows(ATTEMPTS))
    commits: list[Values] = field(default_factory=list)
    checkpoints: list[Values] = field(default_factory=list)

    def add(self, command: Command, usage: Usage | None = None, reads: Reads | None = None) -> None:
        """Take a command in; ``usage`` and ``reads`` are those of the attempt that it ends."""
        match command:
            case RecordRun(status, failure, state):
                self._run(status, failure, state)
            case RecordNodeRun():
                self._node_run(command)
            case StartAttempt(key, attempt):
                # Also the first may come later than its node run: that one waited, or was a subgraph or a map.
                self._node_run(RecordNodeRun(key, NodeRunStatus.RUNNING), is_new=False)
                self._start(key, attempt)
            case RecordAttempt(key, attempt, status, failure):
                self.attempts.change(
                    (key.scope, key.node, key.iteration, attempt),
                    {
                        "status": str(status),
                        "failure": document(failure),
                        "usage": {name: getattr(usage, name) for name in _USED} if usage else None,
                        "reads": {"keys": list(reads.keys), "cut": reads.cut} if reads else None,
                        "finished_at": self.ts,
                    },
                )
            case RecordCommit():
                self.run["last_commit"] = command.number
                self.commits.append(checkpoints.commit_row(command, self.ts))
                self.checkpoints += checkpoints.rows(command)
            case RecordPause(is_paused):
                self.run["paused"] = is_paused
            case _:
                pass

    def encode(self) -> int:
        """Make the JSON of what may be large, and return how many bytes that is."""
        sizes = [_encode(values, "diff") for values in self.commits]
        sizes += [_encode(values, "state") for values in self.checkpoints]
        if self.final_state is not None:
            self.final = {"state": dict(self.final_state)}
            sizes.append(_encode(self.final, "state"))
        return sum(sizes)

    def write(self, connection: Connection, run_id: str, first_seqs: Mapping[NodeRunKey, int]) -> None:
        """Write everything but the run's own row and the events; parents come before what refers to them."""
        for values in self.node_runs.inserts.values():
            key = NodeRunKey(str(values["node"]), cast("int", values["iteration"]), str(values["scope"]))
            values["first_seq"] = first_seqs[key]
        self.node_runs.write(connection, run_id)
        self.attempts.write(connection, run_id)
        checkpoints.write(connection, run_id, self.commits, self.checkpoints)
        if self.final_state is not None:
            state = {"run_id": run_id, "kind": "final", **self.final}
            connection.execute(insert(tables.run_state), state)

    def _run(self, status: RunStatus, failure: Failure | None, state: State | None) -> None:
        self.run |= {"status": str(status), "failure": document(failure)}
        if failure is not None:
            self.run["failure_code"] = failure.code
        if status is RunStatus.RUNNING:
            self.run["started_at"] = self.ts
        if status.is_final:
            self.run |= {"finished_at": self.ts, "owner": None, "parked": False, "wake_at": None}
            self.final_state = state

    def _start(self, key: NodeRunKey, attempt: int) -> None:
        self.attempts.begin(
            {
                "scope": key.scope,
                "node": key.node,
                "iteration": key.iteration,
                "attempt": attempt,
                "status": str(AttemptStatus.RUNNING),
                "failure": None,
                "usage": None,
                "reads": None,
                "started_at": self.ts,
                "finished_at": None,
            }
        )

    def _node_run(self, command: RecordNodeRun, *, is_new: bool = True) -> None:
        values: Values = {
            "status": str(command.status),
            "message": command.message,
            "failure": document(command.failure),
            "finished_at": None if command.status in IN_FLIGHT else self.ts,
        }
        key = command.key
        if is_new and command.status in _BEGINNINGS:
            begun: Values = {"scope": key.scope, "node": key.node, "iteration": key.iteration, "started_at": self.ts}
            self.node_runs.begin(begun | values)
        else:
            self.node_runs.change((key.scope, key.node, key.iteration), values)


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that a run took.

    Attributes:
        commands: Of the scheduler, in its order; those that record nothing are passed over.
        told: What it follows from.
        usage: Of the first attempt that ends in it.
        reads: What that attempt read.
    """

    commands: Sequence[Command]
    told: RunEvent | None = None
    usage: Usage | None = None
    reads: Reads | None = None


def apply(connection: Connection, run_id: str, taken: Sequence[Taken], lease: int | None = None) -> int:
    """Store steps that follow one another, each row once, and return the number of the run's last record.

    Raises:
        NotFound: There is no such run.
        Conflict: The run has ended, was told something else under one of the numbers, or the lease is over; nothing was
            stored.
    """
    step = Step(now())
    new = _new_of(connection, run_id, taken, step.ts, lease)
    events = [entry for each in new for entry in entries(each.commands)]
    for each in new:
        usage, reads = each.usage, each.reads
        for command in each.commands:
            step.add(command, usage, reads)
            if isinstance(command, RecordAttempt):
                usage = reads = None
    if not events and not step.run:
        return journal.last_number(connection, run_id, lease)
    last = journal.advance(connection, run_id, len(events), step.run, lease, stored=step.encode())
    if last is None:
        raise Conflict(f"The run {run_id} has ended: nothing can happen to it any more.", code="run_ended")
    first = last - len(events) + 1
    step.write(connection, run_id, first_numbers(events, first))
    journal.insert_events(connection, run_id, first, events, step.ts)
    if "finished_at" in step.run:
        webhooks.enqueue(connection, run_id)
    return last


def _new_of(
    connection: Connection, run_id: str, taken: Sequence[Taken], ts: datetime, lease: int | None
) -> Sequence[Taken]:
    """Store what a run was told, and return the steps that were not stored before."""
    told = [each.told for each in taken if each.told is not None]
    if not told:
        return taken
    commands = (command for each in taken for command in each.commands)
    known = {each.number for each in told[: run_events.add_new(connection, run_id, told, commands, ts, lease)]}
    for each in told[len(known) :]:
        received_events.mark(connection, run_id, each)
    return [each for each in taken if each.told is None or each.told.number not in known] if known else taken


def record_usage(
    connection: Connection, run_id: str, key: NodeRunKey, attempt: int, usage: Usage, lease: int | None = None
) -> None:
    """Store what an attempt used, unless that is known, or there is no such attempt.

    Raises:
        NotFound: A lease was given, and there is no such run.
        Conflict: The lease is over.
    """
    if lease is not None:
        journal.last_number(connection, run_id, lease)
    named = {"key_run_id": run_id, "key_scope": key.scope, "key_node": key.node, "key_iteration": key.iteration}
    connection.execute(_USAGE, {**named, "key_attempt": attempt, "new_usage": asdict(usage)})


def _encode(values: Values, name: str) -> int:
    text = Encoded(to_json(values[name]))
    values[name] = text
    return len(text)


def first_numbers(events: Sequence[Entry], first_seq: int) -> dict[NodeRunKey, int]:
    """Return the number of the first event that is about each node run."""
    numbers: dict[NodeRunKey, int] = {}
    for seq, entry in enumerate(events, first_seq):
        if entry.key is not None:
            numbers.setdefault(entry.key, seq)
    return numbers


def document(failure: Failure | None) -> Values | None:
    """Return a failure without what is not known of it."""
    return {name: value for name, value in asdict(failure).items() if value is not None} if failure else None
