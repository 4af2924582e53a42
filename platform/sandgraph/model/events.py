"""What the scheduler is told: one event a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey
from sandgraph.model.state import State, StateDiff


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run was claimed; its work begins over this state."""

    state: State


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """An attempt came back with a result.

    Attributes:
        key: The node run.
        attempt: The attempt's number.
        diff: What it changed.
        entered: False where a loop's first check said no: the function did not run.
        again: Whether the loop's condition holds still; None where it was not asked.
        after: The answers of the outgoing edges' conditions, in the graph's order; empty where the loop goes on.
    """

    key: NodeRunKey
    attempt: int
    diff: StateDiff = field(default_factory=StateDiff)
    entered: bool = True
    again: bool | None = None
    after: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt ended without a result."""

    key: NodeRunKey
    attempt: int
    status: AttemptStatus
    failure: Failure


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The wait before an attempt is over."""

    key: NodeRunKey
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody cancelled the run."""


@dataclass(frozen=True, slots=True)
class RunTimedOut:
    """The run took longer than it may."""

    timeout_s: float


Event = RunStarted | AttemptSucceeded | AttemptFailed | RetryDue | CancelRequested | RunTimedOut
