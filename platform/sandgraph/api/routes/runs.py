"""Runs: started, watched, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import BODY, LARGEST, ListQuery, RunId, Uses, answers, known_id, takes
from sandgraph.api.schemas.answers import RunAccepted, RunList, RunOutcome, RunStatusAnswer, StateAnswer
from sandgraph.api.schemas.run import NewRun, RunDocument, parse_run
from sandgraph.api.services import Services
from sandgraph.api.views import accepted_view, outcome_view, run_summary, run_view, state_view
from sandgraph.model.run import RunStatus
from sandgraph.store.records import RunRecord

router = APIRouter(tags=["runs"])

T = TypeVar("T")

_LOCATION = {
    "Location": "Where the run's status can be read.",
    "Idempotent-Replayed": "`true` where the Idempotency-Key was seen before and no run was started.",
}

Submission = Annotated[NewRun, Depends(body_of(parse_run))]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key with the same body again gives the run that it gave before.",
    ),
]


class RunQuery(ListQuery):
    """Which runs are listed."""

    status: RunStatus | None = Field(default=None, description="Runs of this status only.")
    graph_id: str | None = Field(default=None, max_length=256, description="Runs of this graph version only.")


class StateQuery(BaseModel):
    """Which state is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: int | None = Field(default=None, ge=0, le=LARGEST, description="The checkpoint; 0 is the initial state.")


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
        headers=_LOCATION,
    ),
    openapi_extra=takes(RunDocument),
)
async def run_graph(request: Request, new: Submission, uses: Uses, idempotency_key: IdempotencyKey = None) -> Response:
    """Start a run and wait until it ended. The run goes on if the client goes away, or waits too long for it."""
    run, headers = await _submit(uses, new, idempotency_key)
    run = await _unless_gone(request, uses.runs.wait(run.run_id, uses.settings.sync_wait_s))
    if not run.is_final:
        hint = f"The run goes on: ask GET /graph/status/{run.run_id}, or follow /graph/ws/{run.run_id}."
        return reply(accepted_view(run, hint), status=202, headers=headers)
    # A run that did not complete may have no final state of its own; what it committed counts.
    data = run.final_state if run.final_state is not None else (await uses.runs.state(run.run_id, None)).data
    return reply(outcome_view(run, data, await uses.reader.node_runs(run.run_id)), headers=headers)


@router.post(
    "/graph/run_async",
    summary="Start a run",
    status_code=202,
    responses=answers({202: (RunAccepted, "Accepted.")}, *BODY, 404, 409, 429, 503, headers=_LOCATION),
    openapi_extra=takes(RunDocument),
)
async def run_graph_async(new: Submission, uses: Uses, idempotency_key: IdempotencyKey = None) -> Response:
    """Start a run and return at once. An accepted run survives the platform's end: it goes on after the next start."""
    run, headers = await _submit(uses, new, idempotency_key)
    hint = f"Ask GET /graph/status/{run.run_id}, or follow /graph/ws/{run.run_id}."
    return reply(accepted_view(run, hint), status=202, headers=headers)


@router.get("/graph/runs", summary="List runs", responses=answers({200: (RunList, "A page.")}, 422))
async def list_runs(query: Annotated[RunQuery, Query()], uses: Uses) -> Response:
    """List runs, newest first."""
    page = await uses.reader.list_runs(
        status=query.status, graph_id=query.graph_id, cursor=query.cursor, limit=query.limit
    )
    return reply({"runs": [run_summary(run) for run in page.items], "next_cursor": page.next_cursor})


@router.get(
    "/graph/status/{run_id}",
    summary="Read a run's status",
    responses=answers({200: (RunStatusAnswer, "The run.")}, 404, 422),
)
async def run_status(run_id: RunId, uses: Uses) -> Response:
    """Read where a run stands: its nodes by iteration, every attempt with what it used, and what went wrong."""
    run = await uses.reader.run_summary(known_id("run", run_id))
    return reply(run_view(run, await uses.reader.node_runs(run.run_id)))


@router.get(
    "/graph/state/{run_id}",
    summary="Read a run's state",
    responses=answers({200: (StateAnswer, "The state.")}, 404, 422),
)
async def run_state(run_id: RunId, query: Annotated[StateQuery, Query()], uses: Uses) -> Response:
    """Read the state by now, where branches in flight are merged, or that of a checkpoint."""
    run = await uses.reader.run_summary(known_id("run", run_id))
    return reply(state_view(run, await uses.runs.state(run.run_id, query.at)))


@router.post(
    "/graph/cancel/{run_id}",
    summary="Cancel a run",
    responses=answers({200: (RunStatusAnswer, "It is cancelled.")}, 403, 404, 409, 422, 503),
)
async def cancel_run(run_id: RunId, uses: Uses) -> Response:
    """Kill a run's containers at once; what they still say does not count. A cancelled run stays as it is."""
    run = await uses.runs.cancel(known_id("run", run_id))
    return reply(run_view(run, await uses.reader.node_runs(run.run_id)))


async def _submit(uses: Services, new: NewRun, key: str | None) -> tuple[RunRecord, dict[str, str]]:
    run, is_new = await uses.runs.submit(known_id("graph", new.graph_id), new.initial_state, idempotency_key=key)
    headers = {"Location": f"/graph/status/{run.run_id}"}
    return run, headers if is_new else {**headers, "Idempotent-Replayed": "true"}


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
