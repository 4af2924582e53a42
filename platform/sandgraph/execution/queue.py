"""Whose turn it is: runs that wait to begin, in their order, and those that go on, which come first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sandgraph.execution.fairness import Shares
from sandgraph.model.access import DEFAULT_TENANT

#: Where a run stands among those of its tenant: those that go on come first.
Rank = tuple[bool, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits for its turn.

    Attributes:
        run_id: The run.
        graph: Names its graph, in all versions, and no graph of another tenant.
        limit: Runs of that graph that may be under way at the same time; None for any number.
        goes_on: Whether it is under way already: woken, or to be resumed.
        tenant: Whose it is.
    """

    run_id: str
    graph: str
    limit: int | None = None
    goes_on: bool = False
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands that waits for its turn.

    Attributes:
        position: From 1: how many come before it, and one.
        waits_for: The bound that holds it: ``max_concurrent_runs`` of its graph, ``tenant_max_active_runs``,
            ``tenant_cpu_s_per_day`` or ``max_active_runs``.
    """

    position: int
    waits_for: str


class _Line:
    """The runs of one tenant that wait. What is taken out of its turn stays in its heap until it comes to the top."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[int, Waiting]] = {}
        self.going_on: list[tuple[int, str]] = []
        self.beginning: dict[str, list[tuple[int, str]]] = {}

    def add(self, number: int, waiting: Waiting) -> None:
        self.waiting[waiting.run_id] = number, waiting
        heap = self.going_on if waiting.goes_on else self.beginning.setdefault(waiting.graph, [])
        heapq.heappush(heap, (number, waiting.run_id))

    def top(self, heap: list[tuple[int, str]]) -> tuple[int, Waiting] | None:
        while heap:
            number, run_id = heap[0]
            found = self.waiting.get(run_id)
            if found is not None and found[0] == number:
                return found
            heapq.heappop(heap)
        return None

    def heads(self) -> Iterator[tuple[int, Waiting]]:
        """Yield the first of each graph's that are to begin."""
        for graph, heap in list(self.beginning.items()):
            if head := self.top(heap):
                yield head
            else:
                del self.beginning[graph]

    def ranks(self) -> list[Rank]:
        """Return where its runs stand, in order."""
        return sorted(_rank(*each) for each in self.waiting.values())


class RunQueue:
    """Runs that wait for their turn, how many are worked on, and how many runs of each graph are under way.

    The turn goes round over tenants: the one with the fewest runs that are worked on comes next; of those with as many,
    the one whose turn it was longest ago. Of one tenant, runs that go on come before those that begin; among either,
    who came first. A run that is held by its graph's limit is passed by runs of other graphs.

    Args:
        active: Counts runs that are worked on, by tenant.
    """

    def __init__(self, active: Shares) -> None:
        self.active = active
        self._numbers = 0
        self._tenants: dict[str, str] = {}
        self._lines: dict[str, _Line] = {}
        self._under_way: Counter[tuple[str, str]] = Counter()
        # When it was each tenant's turn: as many as there are tenants.
        self._turns: dict[str, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        """Return how many runs wait for their turn."""
        return len(self._tenants)

    def __contains__(self, run_id: object) -> bool:
        """Tell whether a run waits for its turn."""
        return run_id in self._tenants

    @property
    def is_backed_up(self) -> bool:
        """Whether runs wait that are under way."""
        return any(line.top(line.going_on) for line in self._lines.values())

    def waiting(self) -> dict[str, int]:
        """Return how many runs of each tenant wait for their turn."""
        return {tenant: len(line.waiting) for tenant, line in self._lines.items()}

    def tenant_of(self, run_id: str) -> str:
        """Return whose a run is that waits for its turn."""
        return self._tenants[run_id]

    def has_room(self, tenant: str) -> bool:
        """Tell whether a run of a tenant could be worked on at once."""
        return self.active.may_take(tenant, self._lines)

    def add(self, waiting: Waiting, number: int | None = None) -> None:
        """Let a run wait for its turn, unless it does; at the end, or at the place that it had (`remove`)."""
        if waiting.run_id in self._tenants:
            return
        if number is None:
            self._numbers += 1
            number = self._numbers
        self._tenants[waiting.run_id] = waiting.tenant
        self._lines.setdefault(waiting.tenant, _Line()).add(number, waiting)

    def remove(self, run_id: str) -> tuple[int, Waiting]:
        """Take a run out of its turn, and return it and the number of its place."""
        tenant = self._tenants.pop(run_id)
        line = self._lines[tenant]
        found = line.waiting.pop(run_id)
        if not line.waiting:
            del self._lines[tenant]
        return found

    def take(self) -> Waiting | None:
        """Return the run whose turn it is, and count it as under way; None where there is none that may begin.

        That it is worked on is the caller's to count.
        """
        firsts = [first for tenant in self._lines if self.has_room(tenant) and (first := self._first(tenant))]
        if not firsts:
            return None
        _, waiting = min(firsts, key=self._order)
        self._turn += 1
        self._turns[waiting.tenant] = self._turn
        self.remove(waiting.run_id)
        if not waiting.goes_on:
            self.count(waiting)
        return waiting

    def count(self, waiting: Waiting) -> None:
        """Count a run as one more of its graph that is under way."""
        self._under_way[waiting.tenant, waiting.graph] += 1

    def ended(self, waiting: Waiting) -> None:
        """Count one run of a graph less: it has ended."""
        graph = waiting.tenant, waiting.graph
        self._under_way[graph] -= 1
        if self._under_way[graph] <= 0:
            del self._under_way[graph]

    def place(self, run_id: str) -> Place | None:
        """Return where a run stands if nothing else comes; None if it does not wait for its turn."""
        if run_id not in self._tenants:
            return None
        tenant = self._tenants[run_id]
        number, waiting = self._lines[tenant].waiting[run_id]
        rank = _rank(number, waiting)
        # Taken one after another, it would be its turn when its tenant has so many.
        owned = self._lines[tenant].ranks()
        own = owned.index(rank)
        level = self.active.of(tenant) + own
        before = own
        for other, line in self._lines.items():
            if other != tenant:
                ranks = line.ranks()
                least = min(len(ranks), max(0, level - self.active.of(other)))
                is_even = least < len(ranks) and self.active.of(other) + least == level
                before += least + (is_even and self._precedence(other, ranks) < self._precedence(tenant, owned))
        if not waiting.goes_on and not self._has_room(waiting):
            return Place(before + 1, "max_concurrent_runs")
        return Place(before + 1, "tenant_max_active_runs" if self.active.is_bounded(tenant) else "max_active_runs")

    def clear(self) -> None:
        """Forget all that wait."""
        self._tenants.clear()
        self._lines.clear()

    def _order(self, first: tuple[int, Waiting]) -> tuple[int, int, Rank]:
        tenant = first[1].tenant
        return self.active.of(tenant), self._turns.get(tenant, 0), _rank(*first)

    def _precedence(self, tenant: str, ranks: list[Rank]) -> tuple[int, int, Rank]:
        """Return what goes before at a level that tenants reach one after another: who had as many from the start."""
        return -self.active.of(tenant), self._turns.get(tenant, 0), ranks[0]

    def _first(self, tenant: str) -> tuple[int, Waiting] | None:
        line = self._lines[tenant]
        if first := line.top(line.going_on):
            return first
        return min((head for head in line.heads() if self._has_room(head[1])), key=lambda each: each[0], default=None)

    def _has_room(self, waiting: Waiting) -> bool:
        return waiting.limit is None or self._under_way[waiting.tenant, waiting.graph] < waiting.limit


def _rank(number: int, waiting: Waiting) -> Rank:
    return not waiting.goes_on, number
