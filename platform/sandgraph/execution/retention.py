"""Removes in the background what is to be kept no more, and lets every writer go first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from sandgraph.errors import SandgraphError
from sandgraph.settings import Settings
from sandgraph.store.store import Store

logger = logging.getLogger(__name__)

#: Seconds between two looks at what is to go.
EVERY_S = 60.0

#: Rows of a transaction: they are some hundred microseconds' to two milliseconds' work, whatever the disk adds. Fewer
#: where one takes longer, waiting for others included; and then others have the writer for longer.
_LEAST, _FIRST, _MOST = 100, 200, 500
_TARGET_S = 0.01
_REST = 4.0
_LONGEST_REST_S = 0.1

#: Runs looked at, and lines counted, at a time: by readers, of which there are several.
_RUNS = 200
_COUNTED = 5_000

_MB = 1024 * 1024


def _now() -> datetime:
    return datetime.now(UTC)


class Retention:
    """One task that removes lines by age and by size, and runs by age or because somebody deleted them.

    Args:
        store: Of which.
        settings: Of the deployment: for how long, and how much.
        clock: The time.
    """

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], datetime] = _now) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._rows = _FIRST
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: All runs up to this one have no lines left.
        self._emptied = ""
        #: Bytes of the lines that were counted: of all runs up to one, and of those in flight up to a number.
        self._bytes = 0
        self._counted = ""
        self._growing: dict[str, int] = {}

    def start(self) -> None:
        """Begin, with what an earlier process left half removed."""
        self._task = asyncio.create_task(self._go_on(), name="retention")

    async def stop(self) -> None:
        """Remove no more; what is half removed goes on being removed after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def rouse(self) -> None:
        """Look at once: a run was deleted."""
        self._bell.set()

    async def _go_on(self) -> None:
        while True:
            self._bell.clear()
            try:
                await self.once()
            except SandgraphError:
                logger.warning("retention failed", exc_info=True, extra={"action": "retention_failed"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._bell.wait()

    async def once(self) -> None:
        """Remove all that is to go by now."""
        settings = self._settings
        if settings.run_retention_days:
            before = self._clock() - timedelta(days=settings.run_retention_days)
            while await self._batch(lambda rows: self._store.delete_runs(before=before, limit=rows)):
                pass
        while run_ids := await self._store.deleted_runs(_RUNS):
            for run_id in run_ids:
                await self._delete(run_id)
        if settings.log_retention_days:
            await self._remove_old(self._clock() - timedelta(days=settings.log_retention_days))
        if settings.log_retention_mb:
            await self._count()
            await self._remove_most(settings.log_retention_mb * _MB)

    async def _delete(self, run_id: str) -> None:
        if self._settings.log_retention_mb and run_id <= self._counted:
            self._bytes = max(self._bytes - (await self._size_of(run_id, 0))[0], 0)
            self._growing.pop(run_id, None)
        while await self._batch(lambda rows: self._store.delete_some(run_id, rows)):
            pass
        logger.info("run deleted", extra={"action": "run_deleted", "run": run_id})

    # Lines

    async def _remove_old(self, before: datetime) -> None:
        at, is_first = self._emptied, True
        while found := await self._store.runs_with_lines(after=at, before=before, limit=_RUNS):
            empty = []
            for run in found:
                if run.oldest is not None and run.oldest >= before:
                    is_empty = False
                elif run.oldest is not None:
                    await self._drain(run.run_id, before)
                    is_empty = run.is_final and not (await self._store.count_lines(run.run_id, after=0, limit=1))[0]
                else:
                    is_empty = run.is_final
                if is_empty:
                    empty.append(run.run_id)
                # Whoever comes next begins behind those that are done with.
                is_first = is_first and is_empty
                self._emptied = run.run_id if is_first else self._emptied
            if empty:
                await self._batch(partial(self._mark, tuple(empty)))
            at = found[-1].run_id

    async def _mark(self, run_ids: tuple[str, ...], _rows: int) -> int:
        await self._store.mark_without_lines(run_ids)
        return len(run_ids)

    async def _remove_most(self, most: int) -> None:
        at = ""
        while self._bytes > most:
            found = await self._store.runs_with_lines(after=at, limit=_RUNS)
            if not found:
                return
            for run in found:
                if run.oldest is not None:
                    await self._drain(run.run_id, None, most)
                if self._bytes <= most:
                    return
            at = found[-1].run_id

    async def _drain(self, run_id: str, before: datetime | None, most: int = -1) -> None:
        """Remove a run's lines, oldest first: those from before a time, while there are more than so many bytes."""
        removed = 0
        while most < 0 or self._bytes > most:
            lines = await self._batch(lambda rows: self._remove(run_id, before, rows))
            if not lines:
                break
            removed += lines
        if removed:
            logger.info("lines removed", extra={"action": "lines_removed", "run": run_id, "lines": removed})

    async def _remove(self, run_id: str, before: datetime | None, rows: int) -> int:
        lines, size = await self._store.remove_lines(run_id, before=before, limit=rows)
        if self._settings.log_retention_mb:
            self._bytes = max(self._bytes - size, 0)
        return lines

    async def _count(self) -> None:
        """Count the lines that came since."""
        for run_id, after in list(self._growing.items()):
            self._growing[run_id] = await self._count_run(run_id, after)
        while found := await self._store.runs_with_lines(after=self._counted, limit=_RUNS):
            for run in found:
                last = await self._count_run(run.run_id, 0)
                if not run.is_final:
                    self._growing[run.run_id] = last
                self._counted = run.run_id
        for run_id in list(self._growing):
            if await self._has_ended(run_id):
                await self._count_run(run_id, self._growing.pop(run_id))

    async def _count_run(self, run_id: str, after: int) -> int:
        size, last = await self._size_of(run_id, after)
        self._bytes += size
        return last

    async def _size_of(self, run_id: str, after: int) -> tuple[int, int]:
        """Return the bytes of a run's lines after a number, and the number of the last one."""
        total = 0
        while True:
            lines, size, after = await self._store.count_lines(run_id, after=after, limit=_COUNTED)
            total += size
            if lines < _COUNTED:
                return total, after

    async def _has_ended(self, run_id: str) -> bool:
        try:
            return (await self._store.run_summary(run_id)).is_final
        except SandgraphError:
            return True

    async def _batch(self, work: Callable[[int], Awaitable[int]]) -> int:
        """Do one transaction's work, as much as fits into its time, and leave the writer to others for longer."""
        began = time.monotonic()
        done = await work(self._rows)
        took = time.monotonic() - began
        if took > _TARGET_S:
            self._rows = max(self._rows // 2, _LEAST)
        elif took < _TARGET_S / 2 and done >= self._rows:
            self._rows = min(self._rows * 2, _MOST)
        await asyncio.sleep(min(took * _REST, _LONGEST_REST_S))
        return done
