"""What the scheduler is told: one event a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey
from sandgraph.model.state import Json, State, StateDiff


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
        value: The result, where it ran for an item of a map.
        is_amended: Whether the diff is not the attempt's own, as in a fork with another state: its conditions are
            asked anew.
    """

    key: NodeRunKey
    attempt: int
    diff: StateDiff = field(default_factory=StateDiff)
    entered: bool = True
    again: bool | None = None
    after: tuple[bool, ...] = ()
    value: Json = None
    is_amended: bool = False


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
class EventReceived:
    """Somebody sent the run an event; the first node run that waits for that name takes it, now or later.

    Attributes:
        name: What waits speak of.
        payload: Given to the wait; None where there is none.
        event_id: Unique in the run.
    """

    name: str
    payload: Json
    event_id: str


@dataclass(frozen=True, slots=True)
class TimeElapsed:
    """The time of a wait, a map or a subgraph is over."""

    key: NodeRunKey


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """Somebody paused the run: what runs comes to its end, and nothing is started."""


@dataclass(frozen=True, slots=True)
class UnpauseRequested:
    """Somebody unpaused the run."""


@dataclass(frozen=True, slots=True)
class Reopened:
    """The run goes on as a new one: attempts in progress are made anew, and none before counts against retries."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody cancelled the run."""


@dataclass(frozen=True, slots=True)
class RunTimedOut:
    """The run took longer than it may."""

    timeout_s: float


Event = (
    RunStarted
    | AttemptSucceeded
    | AttemptFailed
    | RetryDue
    | EventReceived
    | TimeElapsed
    | PauseRequested
    | UnpauseRequested
    | Reopened
    | CancelRequested
    | RunTimedOut
)
