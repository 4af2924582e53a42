"""Sandboxes that stay with a run between two of its attempts: `Isolation.RUN`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from sandgraph.errors import Unavailable
from sandgraph.model.limits import Limits
from sandgraph.sandbox.container import Container, greet
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.fleet import Fleet

#: Seconds for which one waits for its run's next attempt.
_IDLE_S = 60.0
#: Seconds that killing and wiping what an attempt left may take; longer, and a new sandbox is the better one.
_WIPE_S = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Whose a kept sandbox is, and what it may use: whoever asks for the same can have it."""

    run_id: str
    runtime: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Resident:
    container: Container
    ready: asyncio.Task[bool]
    since: float


class KeptSandboxes:
    """Sandboxes between two attempts of their run: wiped by their supervisor, then ready.

    Args:
        engine: Where they are.
        fleet: Destroys them.
        most: How many are kept at most, of all runs together; a further one takes the place of the oldest.
    """

    def __init__(self, engine: Engine, fleet: Fleet, most: int) -> None:
        self._engine = engine
        self._fleet = fleet
        self._most = most
        self._residents: dict[Place, deque[_Resident]] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self._residents.values()))

    async def take(self, place: Place) -> Container | None:
        """Return one that has been wiped and is ready; None if there is none of that place."""
        while resident := self._pop(place):
            try:
                is_ready = await asyncio.shield(resident.ready)
            except BaseException:
                self._discard(resident)
                raise
            if is_ready and resident.container.channel.is_alive():
                return resident.container
            self._discard(resident)
        return None

    def put(self, place: Place, container: Container) -> None:
        """Keep one whose attempt ended in order."""
        ready = asyncio.create_task(self._is_ready(container), name=f"wipe {container.name}")
        self._residents.setdefault(place, deque()).append(_Resident(container, ready, time.monotonic()))
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
                    self._discard(resident)
            if not residents:
                del self._residents[place]

    def close(self) -> None:
        """Destroy all."""
        for place in list(self._residents):
            self.end_run(place.run_id)

    def _pop(self, place: Place) -> _Resident | None:
        residents = self._residents.get(place)
        if not residents:
            return None
        resident = residents.pop()
        if not residents:
            del self._residents[place]
        return resident

    def _evict(self, place: Place) -> None:
        residents = self._residents[place]
        self._discard(residents.popleft())
        if not residents:
            del self._residents[place]

    def _discard(self, resident: _Resident) -> None:
        self._fleet.tasks.spawn(self._let_go(resident), f"let go {resident.container.name}")

    async def _let_go(self, resident: _Resident) -> None:
        # Its socket is closed once nobody reads from it: another one may get the same number at once.
        resident.ready.cancel()
        await asyncio.wait([resident.ready])
        self._fleet.destroy(resident.container)

    async def _is_ready(self, container: Container) -> bool:
        try:
            await greet(self._engine, container.container_id, container.channel, within_s=_WIPE_S)
        except Unavailable:
            return False
        return True
