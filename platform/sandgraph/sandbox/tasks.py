"""Owners for everything that runs in the background, and for what must finish although its caller was cancelled."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds of the longest pause after a first failure, and after any.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0


async def settled(future: asyncio.Future[Any], timeout_s: float = math.inf) -> None:
    """Wait until it is done, whatever cancellations arrive meanwhile; they are swallowed, so raise yours again."""
    deadline = time.monotonic() + timeout_s
    while not future.done() and (left := deadline - time.monotonic()) > 0:
        try:
            await asyncio.wait([future], timeout=left if math.isfinite(left) else None)
        except asyncio.CancelledError:
            continue


async def persistently(
    action: Callable[[], Awaitable[T]],
    may_pass: Callable[[Exception], bool],
    *,
    within_s: float,
    attempts: float = math.inf,
) -> T:
    """Do something; where it fails in a way that may pass, again, after a pause that is random and grows.

    Nearly always it succeeds at once, several times in an attempt's few milliseconds: then this costs nothing, where a
    library's object for each call took a tenth of one.

    Args:
        action: What to do; called anew each time.
        may_pass: Tells whether to try again after this.
        within_s: Seconds after which a failure is the last one.
        attempts: How often it is done at most.

    Raises:
        Exception: What the last try raised.
    """
    deadline, longest, tries = time.monotonic() + within_s, _FIRST_PAUSE_S, 0
    while True:
        tries += 1
        try:
            return await action()
        except Exception as error:
            if tries >= attempts or time.monotonic() >= deadline or not may_pass(error):
                raise
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - it spreads tries, and keeps no secret
        longest = min(2 * longest, _LONGEST_PAUSE_S)


class Tasks:
    """Owns background tasks: none is forgotten, and what they raise is logged."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start one; it is owned until it ends."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def join(self, timeout_s: float) -> None:
        """Wait for all that run now, and for what they start; cancel what has not ended in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._running and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel all and wait until each has ended."""
        await _cancelled(list(self._running))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "The background task %s failed.", task.get_name(), exc_info=error, extra={"action": "task_failed"}
            )


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
