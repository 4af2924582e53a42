"""The sandboxes that wait: how many of each kind, who gets the next one, and when which one is started.

As many wait as were leased in the last half minute, between the bounds. Whoever finds none goes before all stocking up;
and stocking up goes gently: one at a time while attempts run, and not in the middle of a burst that the stock serves.
Where several tenants ask, the last one of a kind waits for a tenant that holds none: it need not wait for a start.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from sandgraph.errors import EngineUnavailable, Unavailable
from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.fleet import Fleet
from sandgraph.sandbox.kinds import Kind
from sandgraph.sandbox.shelf import Asker, Shelf
from sandgraph.sandbox.tasks import Tasks
from sandgraph.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
#: Seconds after a lease in which nothing is stocked up, as long as half of what shall wait is there.
_CALM_S = 0.1
#: Seconds for which a tenant that asked for one is thought of.
_REMEMBERED_S = 600.0
#: Kinds that are stocked; a further one takes the place of the one that was not asked for longest.
_KINDS = 32


class Stock:
    """Started containers of several kinds.

    Args:
        fleet: Starts them.
        house: The kind of which ``least`` wait at any time.
        least: See there.
        most: How many wait at most, of all kinds together.
        parallelism: How many are started at the same time.
        held: Tells how many a tenant holds; None asks for all tenants.
        tasks: Owns the starters.
        metrics: Count who was served at once.
    """

    def __init__(
        self,
        fleet: Fleet,
        house: Kind,
        *,
        least: int,
        most: int,
        parallelism: int,
        held: Callable[[str | None], int],
        tasks: Tasks,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._fleet = fleet
        self._house = house
        self._least = least
        self._most = max(least, most)
        self._held = held
        self._asked: dict[str, float] = {}
        self._shelves: dict[Kind, Shelf] = {house: Shelf()}
        self._is_closed = False
        self._news = asyncio.Event()
        self._trouble: Unavailable | None = None
        for number in range(parallelism):
            tasks.spawn(self._keep_starting(), f"sandbox starter {number}")

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return sum(len(shelf.warm) for shelf in self._shelves.values())

    @property
    def starting(self) -> int:
        """How many are being started."""
        return sum(shelf.starting for shelf in self._shelves.values())

    @property
    def wanted(self) -> int:
        """How many shall be."""
        return sum(self._targets().values())

    @property
    def trouble(self) -> Unavailable | None:
        """Why the last start failed; None once one succeeded."""
        return self._trouble

    async def take(self, kind: Kind, tenant: str = DEFAULT_TENANT) -> Container:
        """Return one that is alive; the caller's from now on. Waits as long as it takes: bound it."""
        shelf, now = self._shelf(kind), time.monotonic()
        shelf.ask(now)
        self._asked[tenant] = now
        self._news.set()
        while len(shelf.warm) > self._kept_from(tenant):
            container = shelf.warm.popleft()
            if container.channel.is_alive():
                self._metrics.sandbox_leased("hit")
                return container
            self._fleet.destroy(container)
        self._metrics.sandbox_leased("miss")
        turn: asyncio.Future[Container] = asyncio.get_running_loop().create_future()
        place = Asker(now, tenant, turn)
        shelf.line.append(place)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._add(kind, turn.result())
            else:
                with suppress(ValueError):
                    shelf.line.remove(place)
            raise

    def tidy(self, ended: Collection[str] = ()) -> None:
        """Destroy those that died waiting, so that they are replaced before somebody asks, and one that is too many.

        Args:
            ended: Names of containers of which the engine says that they do not run.
        """
        targets = self._targets()
        for kind, shelf in list(self._shelves.items()):
            for container in [each for each in shelf.warm if each.name in ended or not each.channel.is_alive()]:
                shelf.warm.remove(container)
                self._fleet.destroy(container)
            if len(shelf.warm) > targets.get(kind, 0):
                self._fleet.destroy(shelf.warm.popleft())
            if shelf.is_empty and kind != self._house and not shelf.demand(time.monotonic()):
                del self._shelves[kind]
        oldest = time.monotonic() - _REMEMBERED_S
        self._asked = {tenant: asked for tenant, asked in self._asked.items() if asked > oldest}
        self._news.set()

    def close(self) -> None:
        """Turn away whoever stands in line, and destroy what waits or comes back; the starters must have ended."""
        self._is_closed = True
        for shelf in self._shelves.values():
            while shelf.line:
                turn = shelf.line.popleft().turn
                if not turn.done():
                    turn.set_exception(EngineUnavailable("The sandboxes are being shut down."))
            while shelf.warm:
                self._fleet.destroy(shelf.warm.popleft())

    def _shelf(self, kind: Kind) -> Shelf:
        if kind not in self._shelves:
            idle = [each for each, shelf in self._shelves.items() if each != self._house and not shelf.line]
            if len(self._shelves) >= _KINDS and idle:
                oldest = self._shelves.pop(min(idle, key=lambda each: self._shelves[each].last_asked))
                for container in oldest.warm:
                    self._fleet.destroy(container)
            self._shelves[kind] = Shelf()
        return self._shelves[kind]

    def _add(self, kind: Kind, container: Container) -> None:
        shelf = self._shelves.get(kind)
        asker = shelf.next(self._held) if shelf is not None else None
        if shelf is not None and asker is not None and self._is_next(shelf, asker):
            shelf.give(container, asker)
        elif shelf is None or self._is_closed or self.waiting >= self._most:
            self._fleet.destroy(container)
        else:
            shelf.warm.append(container)

    def _is_next(self, shelf: Shelf, asker: Asker) -> bool:
        """Tell whether a sandbox goes to who asks for it, rather than to wait for another tenant."""
        return len(shelf.warm) >= self._kept_from(asker.tenant) or self.waiting >= self._most

    def _kept_from(self, tenant: str) -> int:
        """Return how many of a kind wait for others than a tenant."""
        return 1 if len(self._asked) > 1 and self._held(tenant) else 0

    def _targets(self) -> dict[Kind, int]:
        """Return how many of each kind shall wait: the house's least first, then what is asked for most."""
        now = time.monotonic()
        targets = {self._house: min(self._least, self._most)}
        left = self._most - targets[self._house]
        for kind, shelf in sorted(self._shelves.items(), key=lambda item: -item[1].demand(now)):
            has = targets.get(kind, 0)
            more = min(max(0, shelf.demand(now) - has), left)
            targets[kind] = has + more
            left -= more
        return targets

    def _next(self) -> Kind | None:
        """Return the kind of which one shall be started now."""
        unserved = [(since, kind) for kind, shelf in self._shelves.items() if (since := shelf.unserved) is not None]
        if unserved:
            return min(unserved, key=lambda each: each[0])[1]
        if self._held(None) and any(shelf.starting for shelf in self._shelves.values()):
            return None
        short = {kind: target for kind, target in self._targets().items() if self._has(kind) < target}
        if not short or self._is_in_a_burst(short):
            return None
        return max(short, key=lambda kind: short[kind] - self._has(kind))

    def _has(self, kind: Kind) -> int:
        shelf = self._shelves[kind]
        return len(shelf.warm) + shelf.starting - len(shelf.line)

    def _is_in_a_burst(self, short: dict[Kind, int]) -> bool:
        now = time.monotonic()
        return all(
            now - self._shelves[kind].last_asked < _CALM_S and 2 * len(self._shelves[kind].warm) >= target
            for kind, target in short.items()
        )

    async def _turn(self) -> Kind:
        """Wait until one shall be started."""
        while (kind := self._next()) is None:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CALM_S if self.waiting < self.wanted else None):
                    await self._news.wait()
        return kind

    async def _keep_starting(self) -> None:
        failures = 0
        while True:
            kind = await self._turn()
            shelf = self._shelf(kind)
            shelf.starting += 1
            try:
                container = await self._fleet.start(kind)
            except Unavailable as trouble:
                if self._trouble is None:
                    _log.warning(
                        "No sandbox can be started at present. %s",
                        trouble.message,
                        extra={"action": "sandbox_start_failed"},
                    )
                self._trouble = trouble
                await asyncio.sleep(random.uniform(0.5, 1) * min(_FIRST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S))  # noqa: S311
                failures = min(failures + 1, 10)
            else:
                self._trouble, failures = None, 0
                self._add(kind, container)
            finally:
                shelf.starting -= 1
                self._news.set()
