"""Wakes up whoever reads a run's journal. It carries no records: readers fetch those from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Subscription:
    """One reader's bell: rung as often as there was news, heard once."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Note that there is news."""
        self._bell.set()

    async def wait(self) -> None:
        """Return once there was news since the last call."""
        await self._bell.wait()
        self._bell.clear()


class Bus:
    """Subscriptions by run, for one event loop. It forgets a run with its last subscriber, so it needs no bound."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Subscription]] = {}

    def publish(self, run_id: str) -> None:
        """Wake the readers of a run; never waits for them."""
        for reader in self._readers.get(run_id, ()):
            reader.ring()

    def publish_all(self) -> None:
        """Wake the readers of every run."""
        for run_id in list(self._readers):
            self.publish(run_id)

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator[Subscription]:
        """Be woken by news of a run. Subscribe before the first read, or news between the two is missed."""
        subscription = Subscription()
        self._readers.setdefault(run_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            readers = self._readers[run_id]
            readers.discard(subscription)
            if not readers:
                del self._readers[run_id]
