"""A run's node runs, of which there may be many thousands: a page for who asks where it stands."""

from __future__ import annotations

from collections.abc import Sequence

from sandgraph.api.services import Reader, Runs
from sandgraph.api.views import Document, run_view
from sandgraph.errors import InvalidInput
from sandgraph.store.records import NodeRunRecord, RunSummary

#: Node runs that a run's status shows where it is not asked for fewer, which is the most that it shows at once.
MOST_SHOWN = 500


async def status_of(
    runs: Runs, reader: Reader, run: RunSummary, *, cursor: str | None = None, limit: int = MOST_SHOWN
) -> Document:
    """Return where a run stands, with a page of its node runs in order of their start.

    Raises:
        InvalidInput: At ``cursor``.
    """
    after = _after(cursor)
    found = await reader.node_runs(run.run_id, after=after, limit=limit + 1)
    shown = found[:limit]
    has_more = len(found) > limit
    current: Sequence[NodeRunRecord] | None = None
    if run.is_final:
        current = []
    elif after or has_more:
        current = await reader.node_runs_in_progress(run.run_id)
    next_cursor = str(shown[-1].first_seq) if has_more else None
    return run_view(run, shown, current=current, next_cursor=next_cursor, place=await runs.place(run.run_id))


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise InvalidInput.at("cursor", "invalid_cursor", "This is no cursor of this list; begin without one.")
    return int(cursor[:20])
