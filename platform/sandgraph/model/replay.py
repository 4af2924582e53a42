"""A run made again from what it was told: `scheduler.step` has no other input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordCommit, ScheduleRetry, ScheduleTimer
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, RunStatus

_LOST = Failure(AttemptStatus.LOST.value, "The platform was restarted while it ran.")


@dataclass(frozen=True, slots=True)
class Told:
    """An event that a run was told, and that changed it.

    Attributes:
        event: What it was told.
        at: When that was stored.
        commit: Number of the commit that the attempt made which it is about; None where that made none.
    """

    event: events.Event
    at: datetime
    commit: int | None


@dataclass(frozen=True, slots=True)
class Past:
    """A run as far as it was told.

    Attributes:
        run: What the scheduler knows of it.
        number: Of events told.
        began: When it was told to begin; None before that.
        last: When it was told the last event.
        idle_s: Seconds between two events for which it did nothing but wait.
        waits: By node run, the retry that is waited for, and since when.
        timers: By node run, what limits its time, and since when.
        commands: What followed from the last event.
    """

    run: scheduler.Run
    number: int = 0
    began: datetime | None = None
    last: datetime | None = None
    idle_s: float = 0.0
    waits: Mapping[NodeRunKey, tuple[ScheduleRetry, datetime]] = field(default_factory=dict)
    timers: Mapping[NodeRunKey, tuple[ScheduleTimer, datetime]] = field(default_factory=dict)
    commands: tuple[Command, ...] = ()

    def lost(self) -> list[events.AttemptFailed]:
        """Return what the run is to be told of the attempts that it expects, when nobody runs them any more."""
        return [
            events.AttemptFailed(key, active.attempt, AttemptStatus.LOST, _LOST)
            for key, active in self.run.attempts()
            if not active.is_waiting
        ]

    def worked_s(self, now: datetime) -> float:
        """Return for how long the run has been in progress, the times left out for which it did nothing but wait."""
        if self.began is None:
            return 0.0
        until = self.last if self.last is not None and self.run.status is RunStatus.WAITING else now
        # A clock that was set back makes it no shorter than no time.
        return max(0.0, (until - self.began).total_seconds() - self.idle_s)


def replay(past: Past, told: Iterable[Told]) -> Past:
    """Tell a run more of what it was told, in that order, and forget what follows from it: that was done.

    Raises:
        ValueError: It does not go the way that it went.
    """
    run, number, began, last, idle_s = past.run, past.number, past.began, past.last, past.idle_s
    waits, timers, commands = dict(past.waits), dict(past.timers), list(past.commands)
    for each in told:
        if run.status is RunStatus.WAITING and last is not None:
            idle_s += max(0.0, (each.at - last).total_seconds())
        run, commands = scheduler.step(run, each.event)
        number, last = number + 1, each.at
        if isinstance(each.event, events.RunStarted):
            began = each.at
        if not commands or own_commit(each.event, commands) != _said(each):
            raise ValueError(f"event {number} leads to another end than it did")
        waits.update({command.key: (command, each.at) for command in commands if isinstance(command, ScheduleRetry)})
        timers.update({command.key: (command, each.at) for command in commands if isinstance(command, ScheduleTimer)})
        if isinstance(each.event, events.RetryDue):
            waits.pop(each.event.key, None)
        if isinstance(each.event, events.TimeElapsed):
            timers.pop(each.event.key, None)
    alive = set(timed(run))
    timers = {key: timer for key, timer in timers.items() if key in alive}
    return Past(run, number, began, last, idle_s, waits, timers, tuple(commands))


def own_commit(event: events.Event, commands: Iterable[Command]) -> int | None:
    """Return the number of the commit of the attempt that an event is about: others may have followed from it."""
    if isinstance(event, events.AttemptSucceeded):
        for command in commands:
            if isinstance(command, RecordCommit) and (command.key, command.attempt) == (event.key, event.attempt):
                return command.number
    return None


def _said(told: Told) -> int | None:
    # What else is about an attempt that made a commit made none.
    return told.commit if isinstance(told.event, events.AttemptSucceeded) else None


def timed(run: scheduler.Run) -> Iterator[NodeRunKey]:
    """Yield the node runs in progress whose time may be limited; those inside subgraphs too."""
    yield from run.waits
    yield from run.maps
    for key, inner in run.inside.items():
        yield key
        yield from timed(inner.run)
