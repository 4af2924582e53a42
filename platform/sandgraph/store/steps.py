"""A step of a run, in one transaction: what the scheduler decided becomes rows, and the journal says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import cast

from sqlalchemy import Connection, Table, bindparam, insert, select, update

from sandgraph.errors import Conflict, NotFound
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
from sandgraph.store import journal, tables
from sandgraph.store.columns import now

IN_FLIGHT = {NodeRunStatus.RUNNING, NodeRunStatus.RETRYING}

_KEY = ("node", "iteration")
_ATTEMPT_KEY = (*_KEY, "attempt")

Values = dict[str, object]


@dataclass(slots=True)
class _Rows:
    """What one step inserts into a table, and what it changes there; a row begun and ended in it is written once."""

    key: tuple[str, ...]
    inserts: dict[tuple[object, ...], Values] = field(default_factory=dict)
    updates: dict[tuple[object, ...], Values] = field(default_factory=dict)

    def begin(self, values: Values) -> None:
        self.inserts[tuple(values[name] for name in self.key)] = values

    def change(self, key: tuple[object, ...], values: Values) -> None:
        if key in self.inserts:
            self.inserts[key].update(values)
        else:
            self.updates.setdefault(key, {}).update(values)

    def write(self, connection: Connection, table: Table, run_id: str) -> None:
        if self.inserts:
            connection.execute(insert(table), [{"run_id": run_id, **values} for values in self.inserts.values()])
        for columns in {tuple(values) for values in self.updates.values()}:
            found = {key: values for key, values in self.updates.items() if tuple(values) == columns}
            statement = (
                update(table)
                .where(table.c.run_id == run_id, *(table.c[name] == bindparam(f"key_{name}") for name in self.key))
                .values({name: bindparam(f"new_{name}") for name in columns})
            )
            parameters = [
                {f"key_{name}": value for name, value in zip(self.key, key, strict=True)}
                | {f"new_{name}": value for name, value in values.items()}
                for key, values in found.items()
            ]
            if connection.execute(statement, parameters).rowcount != len(found):
                raise LookupError(f"the run {run_id} has no {table.name} of some of {sorted(map(str, found))}")


@dataclass(slots=True)
class _Step:
    """The rows of one step."""

    ts: datetime
    run: Values = field(default_factory=dict)
    final_state: State | None = None
    node_runs: _Rows = field(default_factory=lambda: _Rows(_KEY))
    attempts: _Rows = field(default_factory=lambda: _Rows(_ATTEMPT_KEY))
    commits: list[Values] = field(default_factory=list)

    def add(self, command: Command, usage: Usage | None) -> None:
        match command:
            case RecordRun(status, failure, state):
                self._run(status, failure, state)
            case RecordNodeRun():
                self._node_run(command)
            case StartAttempt(key, attempt):
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
        self.node_runs.write(connection, tables.node_run, run_id)
        self.attempts.write(connection, tables.attempt, run_id)
        if self.commits:
            connection.execute(insert(tables.state_commit), [{"run_id": run_id, **values} for values in self.commits])
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

    def _node_run(self, command: RecordNodeRun) -> None:
        values: Values = {
            "status": command.status.value,
            "message": command.message,
            "failure": _document(command.failure),
            "finished_at": None if command.status in IN_FLIGHT else self.ts,
        }
        key = command.key
        if command.status in {NodeRunStatus.RUNNING, NodeRunStatus.SKIPPED}:
            begun: Values = {"node": key.node, "iteration": key.iteration, "started_at": self.ts}
            self.node_runs.begin(begun | values)
        else:
            self.node_runs.change((key.node, key.iteration), values)


def apply(connection: Connection, run_id: str, commands: Sequence[Command], usage: Usage | None) -> int:
    """Store a step, and return the number of the run's last record.

    Raises:
        NotFound: There is no such run.
        Conflict: The run has ended; nothing was stored.
    """
    events = list(entries(commands))
    step = _Step(now())
    for command in commands:
        step.add(command, usage)
        if isinstance(command, RecordAttempt):
            usage = None
    last = _advance(connection, run_id, len(events), step.run)
    first = last - len(events) + 1
    step.write(connection, run_id, _first_numbers(events, first))
    journal.insert_events(connection, run_id, first, events, step.ts)
    return last


def _advance(connection: Connection, run_id: str, records: int, values: Values) -> int:
    """Take the next numbers of the run's sequence, and change its row."""
    run = tables.run.c
    last = connection.scalar(
        update(tables.run)
        .where(run.id == run_id, run.status.not_in(journal.FINAL))
        .values(last_seq=run.last_seq + records, **values)
        .returning(run.last_seq)
    )
    if last is not None:
        return int(last)
    status = connection.scalar(select(run.status).where(run.id == run_id))
    if status is None:
        raise NotFound("run", run_id)
    raise Conflict(f"The run {run_id} is {status}: nothing can happen to it any more.", code="run_ended")


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
