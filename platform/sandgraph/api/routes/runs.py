"""Runs: started, watched, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.etags import etag_of_revision, expected_revisions, matches
from sandgraph.api.node_runs import MOST_SHOWN, status_of
from sandgraph.api.reply import reply, reply_unless_known
from sandgraph.api.routes.common import (
    BODY,
    CACHED,
    STARTED,
    Cursor,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    ListQuery,
    Moment,
    Operates,
    Reads,
    RunId,
    Submits,
    answers,
    known_id,
    started,
    takes,
)
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.annotations import AnnotationsDocument, Tag, parse_annotations
from sandgraph.api.schemas.answers import AnnotationsAnswer, RunAccepted, RunList, RunOutcome, RunStatusAnswer
from sandgraph.api.schemas.run import NewRun, RunDocument, parse_run
from sandgraph.api.services import Services
from sandgraph.api.views import accepted_view, annotations_view, outcome_view, run_summary
from sandgraph.model.annotations import MAX_TAGS, AnnotationChange
from sandgraph.model.run import RunStatus
from sandgraph.store.filters import RunFilter, RunSort
from sandgraph.store.records import RunRecord

router = router_of("runs")

T = TypeVar("T")

Submission = Annotated[NewRun, Depends(body_of(parse_run))]


class RunQuery(ListQuery):
    """Which runs are listed."""

    status: list[RunStatus] = Field(
        default_factory=list,
        max_length=len(RunStatus),
        description="Runs of this status; given again, of that one too.",
    )
    graph_id: str | None = Field(default=None, max_length=256, description="Runs of this graph version.")
    graph_name: str | None = Field(default=None, max_length=200, description="Runs of this graph, of any version.")
    tag: list[Tag] = Field(
        default_factory=list, max_length=MAX_TAGS, description="Runs with this tag; given again, with that one as well."
    )
    failure: str | None = Field(
        default=None,
        max_length=128,
        description="Runs whose error has this code, as `too_many_recoveries`: those that were given up.",
    )
    paused: bool | None = Field(default=None, description="Runs that are paused, or that are not.")
    forked_from: str | None = Field(default=None, max_length=128, description="Runs that were made from this one.")
    created_after: Moment | None = Field(default=None, description="Runs accepted at this time or later.")
    created_before: Moment | None = Field(default=None, description="Runs accepted before this time.")
    finished_after: Moment | None = Field(default=None, description="Runs that ended at this time or later.")
    finished_before: Moment | None = Field(default=None, description="Runs that ended before this time.")
    sort: RunSort = Field(
        default=RunSort.NEWEST, description="By when they were accepted; or by their end, and then those that ended."
    )

    def where(self) -> RunFilter:
        """Return which runs these are."""
        return RunFilter(
            frozenset(self.status),
            self.graph_id,
            self.graph_name,
            tuple(self.tag),
            self.failure,
            self.paused,
            self.forked_from,
            self.created_after,
            self.created_before,
            self.finished_after,
            self.finished_before,
        )


class StatusQuery(BaseModel):
    """Which node runs are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before.")
    limit: int = Field(default=MOST_SHOWN, ge=1, le=MOST_SHOWN, description="Most node runs of a page.")


@router.post(
    "/graph/run",
    summary="Run a graph and wait for its end",
    responses=answers(
        {
            200: (RunOutcome, "The run ended; `status` says how."),
            202: (RunAccepted, "The run goes on: it took longer than this deployment lets a request wait."),
        },
        *BODY,
        404,
        409,
        429,
        503,
        headers=STARTED,
    ),
    openapi_extra=takes(RunDocument),
)
async def run_graph(
    request: Request, new: Submission, uses: Submits, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a run and wait until it ended. The run goes on if the client goes away, or waits too long for it."""
    run, headers = await _submit(uses, new, idempotency_key)
    run = await _unless_gone(request, uses.runs.wait(run.run_id, uses.settings.sync_wait_s))
    if not run.is_final:
        hint = f"The run goes on: ask GET /graph/status/{run.run_id}, or follow /graph/ws/{run.run_id}."
        return reply(accepted_view(run, hint), status=202, headers=headers)
    # A run that did not complete may have no final state of its own; what it committed counts.
    data = run.final_state if run.final_state is not None else (await uses.reader.state(run.run_id, None))[1].data
    node_runs = await uses.reader.node_runs(run.run_id)
    # There may be many thousands, and all are told of: on a thread, so that the steps of runs find their turn.
    return await asyncio.to_thread(lambda: reply(outcome_view(run, data, node_runs), headers=headers))


@router.post(
    "/graph/run_async",
    summary="Start a run",
    status_code=202,
    responses=answers({202: (RunAccepted, "Accepted.")}, *BODY, 404, 409, 429, 503, headers=STARTED),
    openapi_extra=takes(RunDocument),
)
async def run_graph_async(new: Submission, uses: Submits, idempotency_key: IdempotencyKey = None) -> Response:
    """Start a run and return at once. An accepted run survives the platform's end: it goes on after the next start."""
    run, headers = await _submit(uses, new, idempotency_key)
    hint = f"Ask GET /graph/status/{run.run_id}, or follow /graph/ws/{run.run_id}."
    return reply(accepted_view(run, hint), status=202, headers=headers)


@router.get("/graph/runs", summary="List runs", responses=answers({200: (RunList, "A page.")}, 422))
async def list_runs(query: Annotated[RunQuery, Query()], uses: Reads) -> Response:
    """List runs: those of which all holds that is asked.

    With filters, a page may be shorter than `limit`, and even empty, before the list's end: that is where `next_cursor`
    is null.
    """
    page = await uses.reader.list_runs(query.where(), sort=query.sort, cursor=query.cursor, limit=query.limit)
    return reply({"runs": [run_summary(run) for run in page.items], "next_cursor": page.next_cursor})


@router.get(
    "/graph/runs/{run_id}",
    summary="Read what is noted about a run",
    responses=answers({200: (AnnotationsAnswer, "Its tags and metadata.")}, 304, 404, 422, headers=CACHED),
)
async def get_annotations(request: Request, run_id: RunId, uses: Reads, _if_none_match: IfNoneMatch = None) -> Response:
    """Read a run's tags and metadata, with the ETag that a change of them has to name."""
    noted = (await uses.reader.run_summary(known_id("run", run_id))).annotations
    tag = etag_of_revision(noted.revision)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if matches(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return reply(annotations_view(run_id, noted), headers=headers)


@router.patch(
    "/graph/runs/{run_id}",
    summary="Change what is noted about a run",
    responses=answers(
        {200: (AnnotationsAnswer, "As they are now.")},
        *BODY,
        404,
        412,
        428,
        503,
        headers={"ETag": "Of what is there now."},
    ),
    openapi_extra=takes(AnnotationsDocument),
)
async def change_annotations(
    request: Request,
    run_id: RunId,
    change: Annotated[AnnotationChange, Depends(body_of(parse_annotations))],
    uses: Submits,
    _if_match: IfMatch = None,
) -> Response:
    """Change a run's tags and metadata, at any time, also of a run that ended; nothing else of a run can be changed."""
    noted = await uses.runs.annotate(known_id("run", run_id), change, expected_revisions(request))
    return reply(annotations_view(run_id, noted), headers={"ETag": etag_of_revision(noted.revision)})


@router.get(
    "/graph/status/{run_id}",
    summary="Read a run's status",
    responses=answers({200: (RunStatusAnswer, "The run.")}, 304, 404, 422, headers=CACHED),
)
async def run_status(
    request: Request,
    run_id: RunId,
    query: Annotated[StatusQuery, Query()],
    uses: Reads,
    _if_none_match: IfNoneMatch = None,
) -> Response:
    """Read where a run stands: its nodes by iteration, every attempt with what it used, and what went wrong.

    Of a run with many node runs, `next_cursor` asks for those that follow.
    """
    run_id = known_id("run", run_id)
    status = await status_of(uses.runs, uses.reader, run_id, cursor=query.cursor, limit=query.limit)
    return reply_unless_known(request, status)


@router.post(
    "/graph/cancel/{run_id}",
    summary="Cancel a run",
    responses=answers({200: (RunStatusAnswer, "It is cancelled.")}, 403, 404, 409, 422, 503),
)
async def cancel_run(run_id: RunId, uses: Operates) -> Response:
    """Kill a run's containers at once; what they still say does not count. A cancelled run stays as it is."""
    run = await uses.runs.cancel(known_id("run", run_id))
    return reply(await status_of(uses.runs, uses.reader, run.run_id))


@router.delete(
    "/graph/runs/{run_id}",
    summary="Delete a run",
    status_code=204,
    responses={**answers({}, 403, 404, 409, 422, 503), 204: {"description": "It is there no more.", "content": {}}},
)
async def delete_run(run_id: RunId, uses: Operates) -> Response:
    """Delete a run that has ended, and all that is kept of it: states, history, attempts, events, lines.

    Runs that were forked from it have its history themselves, and stay.
    """
    await uses.runs.delete(known_id("run", run_id))
    return Response(status_code=204)


async def _submit(uses: Services, new: NewRun, key: str | None) -> tuple[RunRecord, dict[str, str]]:
    run, is_new = await uses.runs.submit(
        known_id("graph", new.graph_id), new.initial_state, idempotency_key=key, annotations=new.annotations
    )
    return run, started(run.run_id, is_new=is_new)


async def _unless_gone(request: Request, waiting: Awaitable[T]) -> T:
    """Wait for something, but not on behalf of a client that is gone."""
    wait, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
        if wait.done():
            return wait.result()
        raise ClientDisconnect
    finally:
        wait.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
