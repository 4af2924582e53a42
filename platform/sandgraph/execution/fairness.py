"""Places that tenants share: none waits behind another's backlog, and one alone may have them all."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping


def no_bound(_tenant: str) -> int | None:
    """Bound no tenant."""
    return None


def has_share(places: int, taken: Mapping[str, int], tenant: str, wanting: Collection[str] = ()) -> bool:
    """Tell whether a tenant may have one more of a number of places, of which each has taken so many.

    As long as one is free, whoever asks gets it. Where all are taken, a tenant that has fewer than its equal share gets
    one all the same: the others took theirs before it came, and nothing is taken from who has it. Never are more than
    twice as many taken as there are.
    """
    total = sum(taken.values())
    if total < places:
        return True
    tenants = {tenant, *wanting, *(each for each, count in taken.items() if count)}
    return taken.get(tenant, 0) < max(1, places // len(tenants)) and total < 2 * places


class Shares:
    """How many of a number of places each tenant has taken.

    Args:
        places: How many there are; `has_share` says who gets one.
        most_of: Tells how many a tenant may take in any case; None for any number.
    """

    def __init__(self, places: int, most_of: Callable[[str], int | None] = no_bound) -> None:
        self._places = places
        self._most_of = most_of
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many places are taken."""
        return self._taken.total()

    def of(self, tenant: str) -> int:
        """Return how many places a tenant has taken."""
        return self._taken[tenant]

    def take(self, tenant: str) -> None:
        """Count one more place as a tenant's, whether or not it may have it."""
        self._taken[tenant] += 1

    def give_back(self, tenant: str) -> None:
        """Count one place less as a tenant's."""
        self._taken[tenant] -= 1
        if self._taken[tenant] <= 0:
            del self._taken[tenant]

    def may_take(self, tenant: str, wanting: Collection[str] = ()) -> bool:
        """Tell whether a tenant may take a place now; ``wanting`` are those that wait for one."""
        if self.is_bounded(tenant):
            return False
        return has_share(self._places, self._taken, tenant, wanting)

    def is_bounded(self, tenant: str) -> bool:
        """Tell whether a tenant has taken all that it may take in any case."""
        most = self._most_of(tenant)
        return most is not None and self._taken[tenant] >= most


class Slot:
    """A slot of `FairSlots` for the length of a block; every attempt has one, so it is no generator.

    Args:
        slots: Whose it is.
        tenant: For whom.
    """

    __slots__ = ("_slots", "_tenant")

    def __init__(self, slots: FairSlots, tenant: str) -> None:
        self._slots = slots
        self._tenant = tenant

    async def __aenter__(self) -> None:
        """Take it, as soon as it is the tenant's turn."""
        await self._slots.acquire(self._tenant)

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        self._slots.release(self._tenant)


class FairSlots:
    """A semaphore that goes round over tenants.

    Of those who wait, the tenant with the fewest slots comes next; of those with as many, whose turn was longest ago.

    Args:
        slots: As `Shares` gives them out.
    """

    def __init__(self, slots: int) -> None:
        self._shares = Shares(slots)
        self._numbers = itertools.count(1)
        self._turns: dict[str, int] = {}
        self._lines: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    def slot(self, tenant: str) -> Slot:
        """Have one for the length of the block."""
        return Slot(self, tenant)

    async def acquire(self, tenant: str) -> None:
        """Take one, as soon as it is the tenant's turn."""
        line = self._lines.get(tenant)
        if line is None and self._shares.may_take(tenant, self._lines):
            self._take(tenant)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = next(self._numbers), turn
        self._lines.setdefault(tenant, deque()).append(place)
        # With one more tenant that wants some, it may have a share of its own.
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(tenant)
            else:
                self._leave(tenant, place)
            raise

    def _take(self, tenant: str) -> None:
        self._shares.take(tenant)
        self._turns[tenant] = next(self._numbers)

    def _order(self, tenant: str) -> tuple[int, int, int]:
        return self._shares.of(tenant), self._turns.get(tenant, 0), self._lines[tenant][0][0]

    def release(self, tenant: str) -> None:
        """Give one back."""
        self._shares.give_back(tenant)
        self._grant()

    def _grant(self) -> None:
        while free := [each for each in self._lines if self._shares.may_take(each, self._lines)]:
            tenant = min(free, key=self._order)
            place = self._lines[tenant][0]
            self._leave(tenant, place)
            if not place[1].done():
                self._take(tenant)
                place[1].set_result(None)

    def _leave(self, tenant: str, place: tuple[int, asyncio.Future[None]]) -> None:
        line = self._lines[tenant]
        line.remove(place)
        if not line:
            del self._lines[tenant]
