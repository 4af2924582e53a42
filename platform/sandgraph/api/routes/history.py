"""What a run's state is, was, and how it came about."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from sandgraph.api.reply import reply, to_json
from sandgraph.api.routes.common import LARGEST, ListQuery, Reads, RunId, answers, known_id
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.answers import HistoryAnswer, StateAnswer
from sandgraph.api.services import Services
from sandgraph.api.views import commit_view, state_view

router = router_of("runs")

#: Commits are fetched so many at a time, and a page that has grown to so many characters ends: each may be as large as
#: a state.
_PART, _LONG_PAGE = 8, 8 * 1024 * 1024


class StateQuery(BaseModel):
    """Which state is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: int | None = Field(default=None, ge=0, le=LARGEST, description="The checkpoint; 0 is the initial state.")


class HistoryQuery(ListQuery):
    """Which commits are listed."""

    node: str | None = Field(default=None, max_length=128, description="Commits of this node only.")
    scope: str | None = Field(
        default=None, max_length=8_192, description="Commits of this scope only; the empty one is the run's own graph."
    )


@router.get(
    "/graph/state/{run_id}",
    summary="Read a run's state",
    responses=answers({200: (StateAnswer, "The state.")}, 404, 422),
)
async def run_state(run_id: RunId, query: Annotated[StateQuery, Query()], uses: Reads) -> Response:
    """Read the state by now, where branches in flight are merged, or that of a checkpoint, and who set each key."""
    run, state = await uses.reader.state(known_id("run", run_id), query.at)
    return reply(state_view(run, state))


@router.get(
    "/graph/history/{run_id}",
    summary="List a run's commits",
    responses=answers({200: (HistoryAnswer, "A page.")}, 404, 422),
)
async def run_history(run_id: RunId, query: Annotated[HistoryQuery, Query()], uses: Reads) -> Response:
    """List how the state came about, first commits first. A page ends early where its commits are large."""
    run = await uses.reader.run_summary(known_id("run", run_id))
    commits, next_cursor = await _history(uses, run.run_id, query)
    # Each was written as it came, to see how long it is.
    text = f'{{"commits":[{",".join(commits)}],"next_cursor":{to_json(next_cursor)}}}'
    return Response(text, media_type="application/json")


async def _history(uses: Services, run_id: str, query: HistoryQuery) -> tuple[list[str], str | None]:
    commits: list[str] = []
    cursor, length = query.cursor, 0
    while True:
        page = await uses.reader.history(
            run_id,
            scope=query.scope,
            node=query.node,
            cursor=cursor,
            limit=min(_PART, query.limit - len(commits)),
        )
        for commit in page.items:
            commits.append(to_json(commit_view(commit)))
            length += len(commits[-1])
        cursor = page.next_cursor
        if cursor is None or len(commits) >= query.limit or length >= _LONG_PAGE:
            return commits, cursor
