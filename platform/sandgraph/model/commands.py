"""What the scheduler asks for: facts to be stored in the step's one transaction, then work to be done after it."""

from __future__ import annotations

from dataclasses import dataclass

from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import State, StateDiff, View


@dataclass(frozen=True, slots=True)
class RecordNodeRun:
    """A node run began, ended, or changed its status."""

    key: NodeRunKey
    status: NodeRunStatus
    failure: Failure | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RecordAttempt:
    """An attempt ended."""

    key: NodeRunKey
    attempt: int
    status: AttemptStatus
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RecordCommit:
    """A state diff was committed.

    Attributes:
        number: Of the checkpoint, from 1; 0 is the initial state.
        parents: The commits it was made over; several where branches met.
        diff: What changed.
        key: The node run that made it.
        attempt: The attempt that made it.
    """

    number: int
    parents: tuple[int, ...]
    diff: StateDiff
    key: NodeRunKey
    attempt: int


@dataclass(frozen=True, slots=True)
class RecordEdge:
    """An edge resolved: taken, or skipped; for good, or if it is inside a cycle, for this iteration."""

    index: int
    source: str
    target: str
    taken: bool


@dataclass(frozen=True, slots=True)
class RecordRun:
    """The run changed its status; ``state`` is its final one, where it ended after it began."""

    status: RunStatus
    failure: Failure | None = None
    state: State | None = None


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run an attempt over a view of the state.

    Attributes:
        key: The node run.
        attempt: From 1.
        view: What it sees.
        is_entry: Whether it is a loop node's first iteration, so that its condition is asked before.
        is_last: Whether it is the last iteration that a loop node may take.
    """

    key: NodeRunKey
    attempt: int
    view: View
    is_entry: bool = False
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Kill an attempt's sandbox; what it still says is ignored."""

    key: NodeRunKey
    attempt: int


@dataclass(frozen=True, slots=True)
class ScheduleRetry:
    """Say `RetryDue` for this attempt after ``delay_s`` seconds, or a random part of them with ``jitter``."""

    key: NodeRunKey
    attempt: int
    delay_s: float
    jitter: bool


Record = RecordNodeRun | RecordAttempt | RecordCommit | RecordEdge | RecordRun
Work = StartAttempt | StopAttempt | ScheduleRetry
Command = Record | Work
