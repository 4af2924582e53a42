"""Wakes parked runs when their time has come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sandgraph.errors import SandgraphError
from sandgraph.store.store import Store

logger = logging.getLogger(__name__)

#: Longest sleep: a clock may be set.
_LONGEST_S = 60.0

#: Shortest sleep: what was woken is due in the store until it is claimed.
_SHORTEST_S = 0.02

#: The same, where what is due has to wait for its turn, and after a failure.
_BUSY_S = 1.0


class Waker:
    """One task that sleeps until the next parked run is due.

    Args:
        store: Knows when that is.
        wake: Is called for each run that is due; more than once until somebody works on it.
        is_busy: Tells whether runs that were woken have to wait for their turn.
    """

    def __init__(self, store: Store, wake: Callable[[str], Awaitable[None]], is_busy: Callable[[], bool]) -> None:
        self._store = store
        self._wake = wake
        self._is_busy = is_busy
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what is due already."""
        self._task = asyncio.create_task(self._watch(), name="waker")

    async def stop(self) -> None:
        """Wake nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def rearm(self) -> None:
        """Look again when the next run is due: one was parked."""
        self._news.set()

    async def _watch(self) -> None:
        while True:
            self._news.clear()
            try:
                sleep_s = await self._once()
            except SandgraphError:
                logger.warning("due runs not read", exc_info=True, extra={"action": "wake_failed"})
                sleep_s = _BUSY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sleep_s):
                    await self._news.wait()

    async def _once(self) -> float:
        """Wake what is due, and return for how long to sleep."""
        first = await self._store.next_wake()
        if first is None:
            return _LONGEST_S
        wait_s = (first - datetime.now(UTC)).total_seconds()
        if wait_s > 0:
            return min(wait_s, _LONGEST_S)
        for run_id in await self._store.due_runs(datetime.now(UTC)):
            await self._wake(run_id)
        if self._is_busy():
            # Whoever parks need not hurry either.
            await asyncio.sleep(_BUSY_S)
        return _SHORTEST_S
