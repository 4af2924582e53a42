"""The sandboxes that wait: how many, who gets the next one, and who starts more."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from contextlib import suppress

from sandgraph.errors import EngineUnavailable, Unavailable
from sandgraph.model.limits import Limits
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.fleet import Fleet
from sandgraph.sandbox.tasks import Tasks

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


class Stock:
    """Started containers of one class, kept at a fixed number; who finds none waits in line for the next.

    Args:
        fleet: Starts them.
        limits: Their class.
        size: How many shall wait.
        parallelism: How many are started at the same time.
        tasks: Owns the starters.
    """

    def __init__(self, fleet: Fleet, limits: Limits, *, size: int, parallelism: int, tasks: Tasks) -> None:
        self._fleet = fleet
        self._limits = limits
        self._size = size
        self._warm: deque[Container] = deque()
        self._line: deque[asyncio.Future[Container]] = deque()
        self._starting = 0
        self._is_closed = False
        self._demand = asyncio.Event()
        self._trouble: Unavailable | None = None
        for number in range(parallelism):
            tasks.spawn(self._keep_starting(), f"sandbox starter {number}")

    @property
    def limits(self) -> Limits:
        """What the containers here may use."""
        return self._limits

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return len(self._warm)

    @property
    def trouble(self) -> Unavailable | None:
        """Why the last start failed; None once one succeeded."""
        return self._trouble

    async def take(self) -> Container:
        """Return one that is alive; the caller's from now on. Waits as long as it takes: bound it."""
        while self._warm:
            container = self._warm.popleft()
            self._demand.set()
            if container.channel.is_alive():
                return container
            self._fleet.destroy(container)
        turn: asyncio.Future[Container] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._demand.set()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._add(turn.result())
            else:
                with suppress(ValueError):
                    self._line.remove(turn)
            raise

    def discard_dead(self) -> None:
        """Destroy those that died waiting, so that they are replaced before somebody asks."""
        for container in [each for each in self._warm if not each.channel.is_alive()]:
            self._warm.remove(container)
            self._fleet.destroy(container)
            self._demand.set()

    def close(self) -> None:
        """Turn away whoever stands in line, and destroy what waits or comes back; the starters must have ended."""
        self._is_closed = True
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_exception(EngineUnavailable("The sandboxes are being shut down."))
        while self._warm:
            self._fleet.destroy(self._warm.popleft())

    def _add(self, container: Container) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(container)
                return
        if self._is_closed:
            self._fleet.destroy(container)
        else:
            self._warm.append(container)

    def _is_short(self) -> bool:
        return len(self._warm) + self._starting < self._size + len(self._line)

    async def _keep_starting(self) -> None:
        failures = 0
        while True:
            while not self._is_short():
                self._demand.clear()
                await self._demand.wait()
            self._starting += 1
            try:
                container = await self._fleet.start(self._limits)
            except Unavailable as trouble:
                if self._trouble is None:
                    _log.warning("No sandbox can be started at present. %s", trouble.message)
                self._trouble = trouble
                await asyncio.sleep(random.uniform(0.5, 1) * min(_FIRST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S))  # noqa: S311
                failures = min(failures + 1, 10)
            else:
                self._trouble, failures = None, 0
                self._add(container)
            finally:
                self._starting -= 1
