"""What is done with runs that are there: events for them, pauses, runs made from them, attempts tried again."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.node_runs import status_of
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import (
    BODY,
    STARTED,
    IdempotencyKey,
    Operates,
    RunId,
    Submits,
    answers,
    known_id,
    started,
    takes,
)
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.answers import EventAnswer, ReplayAnswer, RunForked, RunStatusAnswer
from sandgraph.api.schemas.control import (
    EventDocument,
    ForkDocument,
    NewEvent,
    NewFork,
    NewReplay,
    NewResume,
    ReplayDocument,
    ResumeDocument,
    parse_event,
    parse_fork,
    parse_replay,
    parse_resume,
)
from sandgraph.api.views import event_view, forked_view, replay_view
from sandgraph.store.records import RunRecord

router = router_of("runs")


@router.post(
    "/graph/event/{run_id}",
    summary="Send a run an event",
    status_code=202,
    responses=answers(
        {202: (EventAnswer, "It is kept."), 200: (EventAnswer, "The run had it already.")}, *BODY, 404, 409, 503
    ),
    openapi_extra=takes(EventDocument),
)
async def send_event(
    run_id: RunId, event: Annotated[NewEvent, Depends(body_of(parse_event))], uses: Submits
) -> Response:
    """Keep an event for a run; the first node that waits for that name takes it, now or later, once.

    With an `event_id` it is safe to send an event again.
    """
    receipt = await uses.runs.send_event(known_id("run", run_id), event.name, event.payload, event.event_id)
    return reply(event_view(receipt), status=202 if receipt.is_new else 200)


@router.post(
    "/graph/pause/{run_id}",
    summary="Pause a run",
    responses=answers({200: (RunStatusAnswer, "It is paused.")}, 403, 404, 409, 422, 503),
)
async def pause_run(run_id: RunId, uses: Operates) -> Response:
    """Let what runs come to its end, and start nothing more until the run is unpaused; it keeps what comes meanwhile.

    A paused run may be paused again. A run's time does not pass while it is paused.
    """
    run = await uses.runs.pause(known_id("run", run_id))
    return reply(await status_of(uses.runs, uses.reader, run.run_id))


@router.post(
    "/graph/unpause/{run_id}",
    summary="Let a paused run go on",
    responses=answers({200: (RunStatusAnswer, "It goes on.")}, 403, 404, 409, 422, 503),
)
async def unpause_run(run_id: RunId, uses: Operates) -> Response:
    """Go on where a run was paused; one that is not paused stays as it is."""
    run = await uses.runs.unpause(known_id("run", run_id))
    return reply(await status_of(uses.runs, uses.reader, run.run_id))


@router.post(
    "/graph/fork/{run_id}",
    summary="Fork a run at a checkpoint",
    status_code=202,
    responses=answers({202: (RunForked, "A new run goes on from there.")}, *BODY, 404, 409, 429, 503, headers=STARTED),
    openapi_extra=takes(ForkDocument),
)
async def fork_run(
    run_id: RunId,
    fork: Annotated[NewFork, Depends(body_of(parse_fork))],
    uses: Submits,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run that goes on where another one stood at a checkpoint, with another state perhaps.

    What led to that checkpoint is taken over and does not run again. The other run stays as it is.
    """
    return _forked(
        *await uses.runs.fork(
            known_id("run", run_id),
            fork.at,
            fork.changes,
            latest=fork.latest,
            idempotency_key=idempotency_key,
            annotated=fork.annotated,
        )
    )


@router.post(
    "/graph/resume/{run_id}",
    summary="Go on with a run that failed",
    status_code=202,
    responses=answers({202: (RunForked, "A new run goes on from there.")}, *BODY, 404, 409, 429, 503, headers=STARTED),
    openapi_extra=takes(ResumeDocument, required=False),
)
async def resume_run(
    run_id: RunId,
    resume: Annotated[NewResume, Depends(body_of(parse_resume, may_be_empty=True))],
    uses: Submits,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run that goes on where one ended that did not complete; with the latest functions, after a repair."""
    return _forked(
        *await uses.runs.resume(
            known_id("run", run_id), latest=resume.latest, idempotency_key=idempotency_key, annotated=resume.annotated
        )
    )


@router.post(
    "/graph/replay/{run_id}",
    summary="Try an attempt again",
    responses=answers({200: (ReplayAnswer, "What it came to, both times.")}, *BODY, 404, 409, 429, 503),
    openapi_extra=takes(ReplayDocument),
)
async def replay_attempt(
    run_id: RunId, replay: Annotated[NewReplay, Depends(body_of(parse_replay))], uses: Operates
) -> Response:
    """Run an attempt again in a sandbox, over what it saw, and say what is not the same; nothing of it is kept."""
    return reply(replay_view(await uses.runs.replay(known_id("run", run_id), replay.key, replay.attempt)))


def _forked(run: RunRecord, is_new: bool) -> Response:  # noqa: FBT001 - as the pair comes
    hint = f"Ask GET /graph/status/{run.run_id}, or follow /graph/ws/{run.run_id}."
    return reply(forked_view(run, hint), status=202, headers=started(run.run_id, is_new=is_new))
