"""Says that this process is there still, and notices when another one took its place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from sandgraph.errors import Conflict, Unavailable
from sandgraph.store.store import Store

logger = logging.getLogger(__name__)

#: Beats in the time after which another process may take this one's place.
_BEATS = 3


class Heart:
    """Beats for as long as it is not stopped.

    Args:
        store: Of which there is one process at a time.
        lease_s: Silence after which another process may take this one's place.
    """

    def __init__(self, store: Store, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._listeners: list[Callable[[], Awaitable[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._turned = time.monotonic()
        #: Set once another process took this one's place: this one is to end.
        self.lost = asyncio.Event()

    @property
    def silence_s(self) -> float:
        """Seconds since the last beat came to its end, stored or refused; a store that is stuck does neither."""
        return time.monotonic() - self._turned

    def on_lost(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Have this called once another process took this one's place."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to beat."""
        self._task = asyncio.create_task(self._beat(), name="heart")

    async def stop(self) -> None:
        """Beat no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        while not self.lost.is_set():
            try:
                await self._store.heartbeat()
            except Conflict:
                message = "another process took this one's place; this one stops and stores nothing more"
                logger.critical(message, extra={"action": "lease_lost"})
                self.lost.set()
                for listener in self._listeners:
                    await listener()
                return
            except Unavailable:
                # Tried again: if it lasts too long, another process may take over, which the next beat notices.
                logger.warning("heartbeat not stored", exc_info=True, extra={"action": "heartbeat_failed"})
            self._turned = time.monotonic()
            await asyncio.sleep(self._lease_s / _BEATS)
