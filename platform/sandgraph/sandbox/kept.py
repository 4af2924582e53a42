"""Sandboxes that stay with a run between two of its attempts: `Isolation.RUN`."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from sandgraph.model.limits import Limits
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.fleet import Fleet

#: Seconds for which one waits for its run's next attempt.
_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Whose a kept sandbox is, and what it may use: whoever asks for the same can have it."""

    run_id: str
    runtime: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Resident:
    container: Container
    since: float


class KeptSandboxes:
    """Sandboxes between two attempts of their run, which their supervisors are wiping, or have wiped.

    Args:
        fleet: Destroys them.
        most: How many are kept at most, of all runs together; a further one takes the place of the oldest.
    """

    def __init__(self, fleet: Fleet, most: int) -> None:
        self._fleet = fleet
        self._most = most
        self._residents: dict[Place, deque[_Resident]] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self._residents.values()))

    def take(self, place: Place) -> Container | None:
        """Return one whose supervisor says HELLO once it is wiped; None if there is none of that place."""
        while residents := self._residents.get(place):
            container = residents.pop().container
            if not residents:
                del self._residents[place]
            if container.channel.is_alive():
                return container
            self._fleet.destroy(container)
        return None

    def put(self, place: Place, container: Container) -> None:
        """Keep one whose attempt ended in order."""
        self._residents.setdefault(place, deque()).append(_Resident(container, time.monotonic()))
        if self.count > self._most:
            self._evict(min(self._residents, key=lambda each: self._residents[each][0].since))

    def end_run(self, run_id: str) -> None:
        """Destroy those of a run."""
        for place in [each for each in self._residents if each.run_id == run_id]:
            while place in self._residents:
                self._evict(place)

    def tidy(self) -> None:
        """Destroy those that have waited too long, or died."""
        oldest = time.monotonic() - _IDLE_S
        for place, residents in list(self._residents.items()):
            for resident in list(residents):
                if resident.since < oldest or not resident.container.channel.is_alive():
                    residents.remove(resident)
                    self._fleet.destroy(resident.container)
            if not residents:
                del self._residents[place]

    def close(self) -> None:
        """Destroy all."""
        for place in list(self._residents):
            self.end_run(place.run_id)

    def _evict(self, place: Place) -> None:
        residents = self._residents[place]
        self._fleet.destroy(residents.popleft().container)
        if not residents:
            del self._residents[place]
