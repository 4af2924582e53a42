"""A step of a run, in one transaction: what the scheduler decided becomes rows, and the journal says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import cast

from sqlalchemy import BindParameter, Connection, Table, bindparam, func, insert, update

from sandgraph.errors import Conflict
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordNodeRun,
    RecordRun,
    StartAttempt,
)
from sandgraph.model.journal import Entry, entries
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import State
from sandgraph.store import journal, run_events, tables
from sandgraph.store.columns import now
from sandgraph.store.records import RunEvent

IN_FLIGHT = {NodeRunStatus.RUNNING, NodeRunStatus.RETRYING}

Values = dict[str, object]


class _Table:
    """Statements of a table, made once: making one takes longer than SQLite needs to run it.

    Args:
        table: The table.
        key: Columns that tell its rows apart in a run.
        changes: Columns that an update sets.
        fills: Columns that an update sets, but to null.
    """

    def __init__(
        self, table: Table, key: tuple[str, ...], changes: tuple[str, ...], fills: tuple[str, ...] = ()
    ) -> None:
        self.name = table.name
        self.key = key
        self.insert = insert(table)
        self.update = (
            update(table)
            .where(*(table.c[name] == bindparam(f"key_{name}") for name in ("run_id", *key)))
            .values({name: bindparam(f"new_{name}") for name in changes})
            .values({name: func.coalesce(_parameter(table, name), table.c[name]) for name in fills})
        )


def _parameter(table: Table, name: str) -> BindParameter[object]:
    return bindparam(f"new_{name}", type_=table.c[name].type)


_NODE_RUNS = _Table(tables.node_run, ("node", "iteration"), ("status", "message", "failure", "finished_at"))
_ATTEMPTS = _Table(
    tables.attempt, ("node", "iteration", "attempt"), ("status", "failure", "finished_at"), fills=("usage",)
)
_INSERT_COMMITS = insert(tables.state_commit)


@dataclass(slots=True)
class _Rows:
    """What one step inserts into a table, and what it changes there; a row begun and ended in it is written once."""

    table: _Table
    inserts: dict[tuple[object, ...], Values] = field(default_factory=dict)
    updates: dict[tuple[object, ...], Values] = field(default_factory=dict)

    def begin(self, values: Values) -> None:
        self.inserts[tuple(values[name] for name in self.table.key)] = values

    def change(self, key: tuple[object, ...], values: Values) -> None:
        if key in self.inserts:
            self.inserts[key].update(values)
        else:
            self.updates[key] = values

    def write(self, connection: Connection, run_id: str) -> None:
        if self.inserts:
            rows = [{"run_id": run_id, **values} for values in self.inserts.values()]
            connection.execute(self.table.insert, rows)
        if self.updates:
            rows = [self._parameters(run_id, key, values) for key, values in self.updates.items()]
            if connection.execute(self.table.update, rows).rowcount != len(rows):
                missing = ", ".join(map(str, self.updates))
                raise LookupError(f"the run {run_id} has no {self.table.name} of one of these: {missing}")

    def _parameters(self, run_id: str, key: tuple[object, ...], values: Values) -> Values:
        named: Values = {f"key_{name}": value for name, value in zip(self.table.key, key, strict=True)}
        return {"key_run_id": run_id, **named, **{f"new_{name}": value for name, value in values.items()}}


@dataclass(slots=True)
class _Step:
    """The rows of one step."""

    ts: datetime
    run: Values = field(default_factory=dict)
    final_state: State | None = None
    node_runs: _Rows = field(default_factory=lambda: _Rows(_NODE_RUNS))
    attempts: _Rows = field(default_factory=lambda: _Rows(_ATTEMPTS))
    commits: list[Values] = field(default_factory=list)

    def add(self, command: Command, usage: Usage | None) -> None:
        match command:
            case RecordRun(status, failure, state):
                self._run(status, failure, state)
            case RecordNodeRun():
                self._node_run(command)
            case StartAttempt(key, attempt):
                if attempt > 1:
                    self._node_run(RecordNodeRun(key, NodeRunStatus.RUNNING), is_new=False)
                self.attempts.begin(
                    {
                        "node": key.node,
                        "iteration": key.iteration,
                        "attempt": attempt,
                        "status": AttemptStatus.RUNNING.value,
                        "failure": None,
                        "usage": None,
                        "started_at": self.ts,
                        "finished_at": None,
                    }
                )
            case RecordAttempt(key, attempt, status, failure):
                self.attempts.change(
                    (key.node, key.iteration, attempt),
                    {
                        "status": status.value,
                        "failure": _document(failure),
                        "usage": asdict(usage) if usage else None,
                        "finished_at": self.ts,
                    },
                )
            case RecordCommit(number, parents, diff, key, attempt):
                self.run["last_commit"] = number
                self.commits.append(
                    {
                        "number": number,
                        "parents": list(parents),
                        "diff": diff.to_json(),
                        "node": key.node,
                        "iteration": key.iteration,
                        "attempt": attempt,
                        "created_at": self.ts,
                    }
                )
            case _:
                pass

    def write(self, connection: Connection, run_id: str, first_seqs: Mapping[NodeRunKey, int]) -> None:
        """Write everything but the run's own row and the events; parents come before what refers to them."""
        for values in self.node_runs.inserts.values():
            values["first_seq"] = first_seqs[NodeRunKey(str(values["node"]), cast("int", values["iteration"]))]
        self.node_runs.write(connection, run_id)
        self.attempts.write(connection, run_id)
        if self.commits:
            connection.execute(_INSERT_COMMITS, [{"run_id": run_id, **values} for values in self.commits])
        if self.final_state is not None:
            state = {"run_id": run_id, "kind": "final", "state": dict(self.final_state)}
            connection.execute(insert(tables.run_state), state)

    def _run(self, status: RunStatus, failure: Failure | None, state: State | None) -> None:
        self.run |= {"status": status.value, "failure": _document(failure)}
        if status is RunStatus.RUNNING:
            self.run["started_at"] = self.ts
        if status.is_final:
            self.run["finished_at"] = self.ts
            self.final_state = state

    def _node_run(self, command: RecordNodeRun, *, is_new: bool = True) -> None:
        values: Values = {
            "status": command.status.value,
            "message": command.message,
            "failure": _document(command.failure),
            "finished_at": None if command.status in IN_FLIGHT else self.ts,
        }
        key = command.key
        if is_new and command.status in {NodeRunStatus.RUNNING, NodeRunStatus.SKIPPED}:
            begun: Values = {"node": key.node, "iteration": key.iteration, "started_at": self.ts}
            self.node_runs.begin(begun | values)
        else:
            self.node_runs.change((key.node, key.iteration), values)


def apply(
    connection: Connection, run_id: str, commands: Sequence[Command], usage: Usage | None, told: RunEvent | None = None
) -> int:
    """Store a step, and return the number of the run's last record.

    Raises:
        NotFound: There is no such run.
        Conflict: The run has ended, or was told something else under that number; nothing was stored.
    """
    if told is not None and not run_events.add(connection, run_id, told, commands):
        return journal.last_number(connection, run_id)
    events = list(entries(commands))
    if not events:
        return journal.last_number(connection, run_id)
    step = _Step(now())
    for command in commands:
        step.add(command, usage)
        if isinstance(command, RecordAttempt):
            usage = None
    last = journal.advance(connection, run_id, len(events), step.run)
    if last is None:
        raise Conflict(f"The run {run_id} has ended: nothing can happen to it any more.", code="run_ended")
    first = last - len(events) + 1
    step.write(connection, run_id, _first_numbers(events, first))
    journal.insert_events(connection, run_id, first, events, step.ts)
    return last


def record_usage(connection: Connection, run_id: str, key: NodeRunKey, attempt: int, usage: Usage) -> None:
    """Store what an attempt used, unless that is known, or there is no such attempt."""
    row = tables.attempt.c
    connection.execute(
        update(tables.attempt)
        .where(row.run_id == run_id, row.node == key.node, row.iteration == key.iteration, row.attempt == attempt)
        .where(row.usage.is_(None))
        .values(usage=asdict(usage))
    )


def _first_numbers(events: Sequence[Entry], first_seq: int) -> dict[NodeRunKey, int]:
    """Return the number of the first event that is about each node run."""
    numbers: dict[NodeRunKey, int] = {}
    for seq, entry in enumerate(events, first_seq):
        if entry.key is not None:
            numbers.setdefault(entry.key, seq)
    return numbers


def _document(failure: Failure | None) -> Values | None:
    """Return a failure without what is not known of it."""
    return {name: value for name, value in asdict(failure).items() if value is not None} if failure else None
