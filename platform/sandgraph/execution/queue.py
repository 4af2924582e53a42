"""Whose turn it is: runs that wait to begin, in their order, and those that go on, which come first."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits for its turn.

    Attributes:
        run_id: The run.
        graph: Names its graph, in all versions, and no graph of another tenant.
        limit: Runs of that graph that may be under way at the same time; None for any number.
        goes_on: Whether it is under way already: woken, or to be resumed.
    """

    run_id: str
    graph: str
    limit: int | None = None
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands that waits for its turn.

    Attributes:
        position: From 1: how many come before it, and one.
        waits_for: The bound that holds it: ``max_concurrent_runs`` of its graph, or ``max_active_runs``.
    """

    position: int
    waits_for: str


class RunQueue:
    """Runs that wait for their turn, and how many runs of each graph are under way.

    Runs that go on come before those that begin; among either, who came first. A run that is held by its graph's limit
    is passed by runs of other graphs.
    """

    def __init__(self) -> None:
        self._numbers = 0
        self._waiting: dict[str, tuple[int, Waiting]] = {}
        # What is taken out of its turn stays in its heap until it comes to the top.
        self._going_on: list[tuple[int, str]] = []
        self._beginning: dict[str, list[tuple[int, str]]] = {}
        self._under_way: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many runs wait for their turn."""
        return len(self._waiting)

    def __contains__(self, run_id: object) -> bool:
        """Tell whether a run waits for its turn."""
        return run_id in self._waiting

    @property
    def is_backed_up(self) -> bool:
        """Whether runs wait that are under way."""
        return self._top(self._going_on) is not None

    def add(self, waiting: Waiting, number: int | None = None) -> None:
        """Let a run wait for its turn, unless it does; at the end, or at the place that it had (`remove`)."""
        if waiting.run_id in self._waiting:
            return
        if number is None:
            self._numbers += 1
            number = self._numbers
        self._waiting[waiting.run_id] = number, waiting
        heap = self._going_on if waiting.goes_on else self._beginning.setdefault(waiting.graph, [])
        heapq.heappush(heap, (number, waiting.run_id))

    def remove(self, run_id: str) -> tuple[int, Waiting]:
        """Take a run out of its turn, and return it and the number of its place."""
        return self._waiting.pop(run_id)

    def take(self) -> Waiting | None:
        """Return the run whose turn it is, and count it as under way; None where there is none that may begin."""
        heap = self._going_on
        if self._top(heap) is None:
            heads = ((top, heap) for heap in list(self._beginning.values()) if (top := self._top(heap)))
            free = [(number, heap) for (number, waiting), heap in heads if self._has_room(waiting)]
            if not free:
                self._forget()
                return None
            heap = min(free, key=lambda each: each[0])[1]
        _, run_id = heapq.heappop(heap)
        _, waiting = self._waiting.pop(run_id)
        if not waiting.goes_on:
            self.count(waiting.graph)
        return waiting

    def count(self, graph: str) -> None:
        """Count one more run of a graph as under way."""
        self._under_way[graph] += 1

    def ended(self, graph: str) -> None:
        """Count one run of a graph less: it has ended."""
        self._under_way[graph] -= 1
        if self._under_way[graph] <= 0:
            del self._under_way[graph]

    def place(self, run_id: str) -> Place | None:
        """Return where a run stands; None if it does not wait for its turn."""
        if run_id not in self._waiting:
            return None
        number, waiting = self._waiting[run_id]
        own = (not waiting.goes_on, number)
        before = sum((not other.goes_on, its) < own for its, other in self._waiting.values())
        is_held = not waiting.goes_on and not self._has_room(waiting)
        return Place(before + 1, "max_concurrent_runs" if is_held else "max_active_runs")

    def clear(self) -> None:
        """Forget all that wait."""
        self._waiting.clear()
        self._going_on.clear()
        self._beginning.clear()

    def _has_room(self, waiting: Waiting) -> bool:
        return waiting.limit is None or self._under_way[waiting.graph] < waiting.limit

    def _top(self, heap: list[tuple[int, str]]) -> tuple[int, Waiting] | None:
        while heap:
            number, run_id = heap[0]
            found = self._waiting.get(run_id)
            if found is not None and found[0] == number:
                return found
            heapq.heappop(heap)
        return None

    def _forget(self) -> None:
        for graph in [graph for graph, heap in self._beginning.items() if not heap]:
            del self._beginning[graph]
