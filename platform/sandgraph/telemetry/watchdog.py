"""Notices when the event loop does nothing for seconds, and says what held it up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback

from sandgraph.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

#: Seconds between two looks at how late the loop is.
_TICK_S = 0.25


class Watchdog:
    """Watches the event loop that it is started on, from a thread of its own.

    Args:
        metrics: Take how late the loop is.
        stall_s: Seconds of silence that are too many.
    """

    def __init__(self, metrics: Metrics, stall_s: float) -> None:
        self._metrics = metrics
        self._stall_s = stall_s
        self._heard = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._loop_thread: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sandgraph-watchdog", daemon=True)

    @property
    def silence_s(self) -> float:
        """Seconds for which nothing was heard of the loop; may be asked on any thread."""
        return time.monotonic() - self._heard

    @property
    def is_stalled(self) -> bool:
        """Whether that is too long."""
        return self.silence_s > self._stall_s

    def start(self) -> None:
        """Begin to watch the loop that runs."""
        self._loop_thread = threading.get_ident()
        self._heard = time.monotonic()
        self._task = asyncio.create_task(self._tick(), name="watchdog")
        self._thread.start()

    async def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await asyncio.to_thread(self._thread.join)

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._heard = time.monotonic()
            self._metrics.loop_was_late(max(0.0, self._heard - due))

    def _watch(self) -> None:
        said = False
        while not self._stop.wait(min(_TICK_S, self._stall_s)):
            if not self.is_stalled:
                said = False
            elif not said:
                said = True
                self._metrics.loop_stalled()
                logger.error(
                    "the event loop has done nothing for %.1f s",
                    self.silence_s,
                    extra={"action": "loop_stalled", "seconds": round(self.silence_s, 1), "stack": self._stack()},
                )

    def _stack(self) -> str:
        """Return what the loop's thread is at."""
        frame = sys._current_frames().get(self._loop_thread or 0)  # noqa: SLF001 - the way to another thread's stack
        return "".join(traceback.format_stack(frame)) if frame else ""
