"""What a run's journal says of a step: each command that records a fact becomes one entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import NamedTuple

from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordEdge,
    RecordEvent,
    RecordNodeRun,
    RecordPause,
    RecordRun,
    ScheduleRetry,
    StartAttempt,
)
from sandgraph.model.run import Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json


class Entry(NamedTuple):
    """An event before it has its number; the fields are those of `store.records.JournalRecord`."""

    type: str
    status: str
    message: str
    key: NodeRunKey | None = None
    attempt: int | None = None
    data: Mapping[str, Json] = MappingProxyType({})


def entries(commands: Sequence[Command]) -> Iterator[Entry]:
    """Yield the journal's entries of one step, in the step's order."""
    for command in commands:
        if entry := _entry(command):
            yield entry


def _entry(command: Command) -> Entry | None:  # noqa: C901, PLR0911 - one case a kind, those that are most first
    data: dict[str, Json]
    match command:
        case RecordNodeRun(key, status, failure, message):
            return Entry("node", status, message or _node_message(key, status, failure), key, data=_failure(failure))
        case RecordEdge(_, source, target, taken, scope):
            became = "taken" if taken else "skipped"
            data = {"source": source, "target": target, **({"scope": scope} if scope else {})}
            return Entry("edge", became, f"{source} → {target} {became}", data=data)
        case RecordAttempt(key, attempt, status, failure):
            message = f"Attempt {attempt} of {key}: {failure.message if failure else status}"
            return Entry("attempt", status, message, key, attempt, _failure(failure))
        case StartAttempt(key, attempt):
            return Entry("attempt", "running", f"Attempt {attempt} of {key} started.", key, attempt)
        case RecordCommit(number, parents, diff, key, attempt):
            keys = ", ".join(op.key for op in diff.ops[:_KEYS_SHOWN]) + (", …" if len(diff.ops) > _KEYS_SHOWN else "")
            data = {"commit": number, "parents": list(parents), "diff": list(diff.to_json())}
            return Entry("state", "committed", f"{key} changed: {keys or 'nothing'}", key, attempt, data)
        case ScheduleRetry(key, attempt, delay_s):
            message = f"Attempt {attempt} of {key} follows in at most {delay_s:g} s."
            return Entry("attempt", "scheduled", message, key, attempt)
        case RecordRun(status, failure):
            return Entry("run", status, _run_message(status, failure), data=_failure(failure))
        case RecordPause(is_paused, status):
            message = "The run is paused." if is_paused else "The run is not paused any more."
            return Entry("run", status, message, data={"paused": is_paused})
        case RecordEvent(name, event_id, taker):
            data = {"name": name, "event_id": event_id}
            if taker is None:
                return Entry("event", "received", f"The event {name!r} came in.", data=data)
            return Entry("event", "taken", f"{taker} took the event {name!r}.", taker, data=data)
    return None


_KEYS_SHOWN = 10


def _run_message(status: RunStatus, failure: Failure | None) -> str:
    if failure is None:
        return f"The run is {status}."
    return failure.message if status is RunStatus.CANCELLED else f"The run {status}: {failure.message}"


def _node_message(key: NodeRunKey, status: NodeRunStatus, failure: Failure | None) -> str:
    return f"{key} {status}: {failure.message}" if failure else f"{key} {status}"


def _failure(failure: Failure | None) -> dict[str, Json]:
    return {"error": {name: value for name, value in asdict(failure).items() if value is not None}} if failure else {}
