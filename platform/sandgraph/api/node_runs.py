"""A run's node runs, of which there may be many thousands: a page for who asks where it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sandgraph.api.services import Reader, Runs
from sandgraph.api.views import Document, run_view
from sandgraph.errors import InvalidInput
from sandgraph.model.run import NodeRunStatus
from sandgraph.store.records import NodeRunRecord, Page, RunSummary

#: Node runs that a run's status shows where it is not asked for fewer, which is the most that it shows at once.
MOST_SHOWN = 1_000

_IN_PROGRESS = {NodeRunStatus.RUNNING, NodeRunStatus.WAITING, NodeRunStatus.RETRYING}


async def status_of(
    runs: Runs, reader: Reader, run: RunSummary, *, cursor: str | None = None, limit: int = MOST_SHOWN
) -> Document:
    """Return where a run stands, with a page of its node runs in order of their start.

    Raises:
        InvalidInput: At ``cursor``.
    """
    after = _after(cursor)
    found = await reader.node_runs(run.run_id, after=after, limit=limit + 1)
    shown = tuple(found[:limit])
    page = Page(shown, str(shown[-1].first_seq) if len(found) > limit else None)
    if run.is_final:
        current = []
    elif after == 0 and page.next_cursor is None:
        current = _current(shown)
    else:
        current = [each async for each in _all_current(reader, run.run_id)]
    place = await runs.place(run.run_id) if hasattr(runs, "place") else None
    return run_view(run, page, current, place)


def _current(node_runs: tuple[NodeRunRecord, ...]) -> list[NodeRunRecord]:
    return [each for each in node_runs if each.status in _IN_PROGRESS]


async def _all_current(reader: Reader, run_id: str) -> AsyncIterator[NodeRunRecord]:
    after = 0
    while found := await reader.node_runs(run_id, after=after, limit=MOST_SHOWN):
        for each in _current(tuple(found)):
            yield each
        after = found[-1].first_seq


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise InvalidInput.at("cursor", "invalid_cursor", "This is no cursor of this list; begin without one.")
    return int(cursor[:20])
