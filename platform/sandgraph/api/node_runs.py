"""A run's node runs, of which there may be many thousands: a page for who asks where it stands."""

from __future__ import annotations

from sandgraph.api.services import Reader, Runs
from sandgraph.api.views import Document, run_view
from sandgraph.errors import InvalidInput

#: Node runs that a run's status shows where it is not asked for fewer, which is the most that it shows at once.
MOST_SHOWN = 500


async def status_of(
    runs: Runs, reader: Reader, run_id: str, *, cursor: str | None = None, limit: int = MOST_SHOWN
) -> Document:
    """Return where a run stands, with a page of its node runs in order of their start.

    Raises:
        NotFound: There is no such run.
        InvalidInput: At ``cursor``.
    """
    standing = await reader.standing(run_id, after=_after(cursor), limit=limit)
    return run_view(standing, place=await runs.place(run_id))


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise InvalidInput.at("cursor", "invalid_cursor", "This is no cursor of this list; begin without one.")
    return int(cursor[:20])
