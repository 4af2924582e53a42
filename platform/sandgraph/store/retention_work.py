"""The store's methods by which things are kept no more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sandgraph.store import retention
from sandgraph.store.database import Database
from sandgraph.store.known import Known
from sandgraph.store.retention import Lines


class RetentionWork:
    """What removes; part of `Store`. Each writes for some milliseconds, for others wait."""

    def __init__(self, database: Database, known: Known) -> None:
        self._database = database
        self._known = known

    async def delete_run(self, run_id: str) -> None:
        """Let a run that has ended be there no more; its rows are to be removed by `delete_some`.

        Raises:
            NotFound: There is none of that id.
            Conflict: It has not ended (``run_not_finished``).
        """
        await self._database.write(retention.begin_deletion, run_id)
        self._forget(run_id)

    async def delete_runs(self, *, before: datetime, limit: int) -> int:
        """Do the same for runs that ended before a time, oldest first; return for how many."""
        return await self._database.write(retention.begin_deletions, before, limit)

    async def deleted_runs(self, limit: int) -> list[str]:
        """Return the ids of runs whose rows are to be removed."""
        return await self._database.read(retention.deleted, limit)

    async def delete_some(self, run_id: str, limit: int) -> int:
        """Remove some rows of such a run; return how many, 0 once there is nothing of it."""
        self._forget(run_id)
        return await self._database.write(retention.delete_some, run_id, limit)

    async def runs_with_lines(
        self, *, after: str = "", before: datetime | None = None, limit: int = 500
    ) -> list[Lines]:
        """Return runs with ids above one, made before a time, of which lines may be kept; oldest first."""
        return await self._database.read(retention.runs_with_lines, after, before, limit)

    async def mark_without_lines(self, run_ids: Sequence[str]) -> None:
        """Note that no lines are kept of these runs, where they have ended."""
        await self._database.write(retention.mark_without_lines, run_ids)

    async def remove_lines(self, run_id: str, *, before: datetime | None, limit: int) -> tuple[int, int]:
        """Remove a run's first lines, stored before a time or whenever; return how many, and their bytes."""
        return await self._database.write(retention.remove_lines, run_id, before, limit)

    async def count_lines(self, run_id: str, *, after: int, limit: int) -> tuple[int, int, int]:
        """Return of the lines after a number, ``limit`` at most, how many, their bytes, and the last one's number."""
        return await self._database.read(retention.count_lines, run_id, after, limit)

    def _forget(self, run_id: str) -> None:
        self._known.tenants.forget(run_id)
        self._known.pinned.forget(run_id)
