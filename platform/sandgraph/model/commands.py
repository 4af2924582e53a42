"""What the scheduler asks for: facts to be stored in the step's one transaction, then work to be done after it."""

from __future__ import annotations

from dataclasses import dataclass

from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import State, StateDiff, View

EMPTY = StateDiff()


@dataclass(frozen=True, slots=True)
class RecordNodeRun:
    """A node run began (with its first record), ended, or changed its status; `StartAttempt` too makes it run."""

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
        attempt: The attempt that made it; None where none did: of a map, a subgraph, or an event's payload.
        trunk: The commit over whose state ``merged`` was laid; the first of the parents where one branch came.
        merged: What leads from the trunk's state to what the node run saw: what other branches did, or what a subgraph
            does not see.
        before: What the node run saw.
        after: What its successors see.
    """

    number: int
    parents: tuple[int, ...]
    diff: StateDiff
    key: NodeRunKey
    attempt: int | None
    trunk: int = 0
    merged: StateDiff = EMPTY
    before: View | None = None
    after: View | None = None


@dataclass(frozen=True, slots=True)
class RecordEdge:
    """An edge resolved: taken, or skipped; for good, or if it is inside a cycle, for this iteration."""

    index: int
    source: str
    target: str
    taken: bool
    scope: str = ""


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
        graph_id: The graph that the node is part of; None for the run's own.
        item: Which item of a map it runs for, from 0; None elsewhere.
        asks_only: Whether it only asks conditions, as the node run has made its commit.
    """

    key: NodeRunKey
    attempt: int
    view: View
    is_entry: bool = False
    is_last: bool = False
    graph_id: str | None = None
    item: int | None = None
    asks_only: bool = False


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


@dataclass(frozen=True, slots=True)
class ScheduleTimer:
    """Say `TimeElapsed` for this node run after that many seconds."""

    key: NodeRunKey
    delay_s: float


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """An event was received (no key), or a node run took it."""

    name: str
    event_id: str
    key: NodeRunKey | None = None


@dataclass(frozen=True, slots=True)
class RecordPause:
    """The run was paused, or unpaused; ``status`` is the one it has."""

    is_paused: bool
    status: RunStatus


Record = RecordNodeRun | RecordAttempt | RecordCommit | RecordEdge | RecordRun | RecordEvent | RecordPause
Work = StartAttempt | StopAttempt | ScheduleRetry | ScheduleTimer
Command = Record | Work
