"""The waiting sandboxes of one kind, those who wait for one, and how many were asked for lately."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sandgraph.sandbox.container import Container

#: Seconds for which a lease counts as demand: as many as were asked for in this time shall wait for the next.
DEMAND_S = 30.0
#: More leases than this are not counted: no pool is larger.
_MOST_COUNTED = 256


@dataclass(frozen=True, slots=True, eq=False)
class Asker:
    """Who waits for a sandbox.

    Attributes:
        since: When it came.
        tenant: Whose it is.
        turn: Is given the sandbox.
    """

    since: float
    tenant: str
    turn: asyncio.Future[Container]


class Shelf:
    """One kind's sandboxes; changes nothing but itself."""

    def __init__(self) -> None:
        self.warm: deque[Container] = deque()
        self.line: deque[Asker] = deque()
        self.starting = 0
        self._asked: deque[float] = deque(maxlen=_MOST_COUNTED)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing here, and nothing to come."""
        return not (self.warm or self.line or self.starting)

    @property
    def last_asked(self) -> float:
        """When the last one was asked for."""
        return self._asked[-1] if self._asked else 0.0

    @property
    def unserved(self) -> float | None:
        """Since when somebody waits for whom none is being started; None if there is nobody."""
        return self.line[self.starting].since if len(self.line) > self.starting else None

    def ask(self, now: float) -> None:
        """Note that one was asked for."""
        self._asked.append(now)

    def demand(self, now: float) -> int:
        """Return how many were asked for lately."""
        while self._asked and self._asked[0] < now - DEMAND_S:
            self._asked.popleft()
        return len(self._asked)

    def next(self, held: Callable[[str], int]) -> Asker | None:
        """Return who comes next: of the tenants, the one that holds the fewest; of its askers, who waits longest."""
        while self.line and self.line[0].turn.done():
            self.line.popleft()
        return min(
            (each for each in self.line if not each.turn.done()), key=lambda each: held(each.tenant), default=None
        )

    def give(self, container: Container, asker: Asker) -> None:
        """Give a sandbox to somebody who waits."""
        self.line.remove(asker)
        asker.turn.set_result(container)
