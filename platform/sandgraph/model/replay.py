"""A run made again from what it was told: `scheduler.step` has no other input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sandgraph.model import events, scheduler
from sandgraph.model.commands import RecordCommit, ScheduleRetry
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey

_LOST = Failure(AttemptStatus.LOST.value, "The platform was restarted while it ran.")


@dataclass(frozen=True, slots=True)
class Told:
    """An event that a run was told, and that changed it.

    Attributes:
        event: What it was told.
        at: When that was stored.
        commit: Number of the commit that it made; None where it made none.
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
        began: When it was told the first; None before that.
        waits: By node run, the retry that is waited for, and since when.
    """

    run: scheduler.Run
    number: int = 0
    began: datetime | None = None
    waits: Mapping[NodeRunKey, tuple[ScheduleRetry, datetime]] = field(default_factory=dict)

    def lost(self) -> list[events.AttemptFailed]:
        """Return what the run is to be told of the attempts that it expects, when nobody runs them any more."""
        return [
            events.AttemptFailed(key, active.attempt, AttemptStatus.LOST, _LOST)
            for key, active in self.run.active.items()
            if not active.is_waiting
        ]


def replay(past: Past, told: Iterable[Told]) -> Past:
    """Tell a run more of what it was told, in that order, and forget what follows from it: that was done.

    Raises:
        ValueError: It does not go the way that it went.
    """
    run, number, began, waits = past.run, past.number, past.began, dict(past.waits)
    for each in told:
        run, commands = scheduler.step(run, each.event)
        number += 1
        began = began or each.at
        made = [command.number for command in commands if isinstance(command, RecordCommit)]
        if not commands or made != ([] if each.commit is None else [each.commit]):
            raise ValueError(f"event {number} leads to another end than it did")
        waits.update({command.key: (command, each.at) for command in commands if isinstance(command, ScheduleRetry)})
        if isinstance(each.event, events.RetryDue):
            waits.pop(each.event.key, None)
    return Past(run, number, began, waits)
