"""What a run's journal says of a step: each command that records a fact becomes one entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordEdge,
    RecordNodeRun,
    RecordRun,
    ScheduleRetry,
    StartAttempt,
)
from sandgraph.model.run import Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json


@dataclass(frozen=True, slots=True)
class Entry:
    """An event before it has its number; the fields are those of `store.records.JournalRecord`."""

    type: str
    status: str
    message: str
    key: NodeRunKey | None = None
    attempt: int | None = None
    data: dict[str, Json] = field(default_factory=dict)


def entries(commands: Sequence[Command]) -> Iterator[Entry]:
    """Yield the journal's entries of one step, in the step's order."""
    for command in commands:
        match command:
            case RecordRun(status, failure):
                yield Entry("run", status, _run_message(status, failure), data=_failure(failure))
            case RecordNodeRun(key, status, failure, message):
                yield Entry("node", status, message or _node_message(key, status, failure), key, data=_failure(failure))
            case StartAttempt(key, attempt):
                yield Entry("attempt", "running", f"Attempt {attempt} of {key} started.", key, attempt)
            case RecordAttempt(key, attempt, status, failure):
                message = f"Attempt {attempt} of {key}: {failure.message if failure else status}"
                yield Entry("attempt", status, message, key, attempt, _failure(failure))
            case RecordCommit(number, parents, diff, key, attempt):
                keys = ", ".join(op.key for op in diff.ops[:_KEYS_SHOWN]) + (
                    ", …" if len(diff.ops) > _KEYS_SHOWN else ""
                )
                data: dict[str, Json] = {"commit": number, "parents": list(parents), "diff": list(diff.to_json())}
                yield Entry("state", "committed", f"{key} changed: {keys or 'nothing'}", key, attempt, data)
            case RecordEdge(_, source, target, taken):
                became = "taken" if taken else "skipped"
                data = {"source": source, "target": target}
                yield Entry("edge", became, f"{source} → {target} {became}", data=data)
            case ScheduleRetry(key, attempt, delay_s):
                message = f"Attempt {attempt} of {key} follows in at most {delay_s:g} s."
                yield Entry("attempt", "scheduled", message, key, attempt)
            case _:
                pass


_KEYS_SHOWN = 10


def _run_message(status: RunStatus, failure: Failure | None) -> str:
    if failure is None:
        return f"The run is {status}."
    return failure.message if status is RunStatus.CANCELLED else f"The run {status}: {failure.message}"


def _node_message(key: NodeRunKey, status: NodeRunStatus, failure: Failure | None) -> str:
    return f"{key} {status}: {failure.message}" if failure else f"{key} {status}"


def _failure(failure: Failure | None) -> dict[str, Json]:
    return {"error": {name: value for name, value in asdict(failure).items() if value is not None}} if failure else {}
