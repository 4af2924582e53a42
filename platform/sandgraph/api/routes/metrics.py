"""What the platform counts and measures of itself, for Prometheus."""

from __future__ import annotations

from typing import cast

from fastapi import Request
from starlette.responses import PlainTextResponse, Response

from sandgraph.api.peers import may_look
from sandgraph.api.problem import HttpError
from sandgraph.api.routes.common import Uses, answers
from sandgraph.api.routing import router_of
from sandgraph.errors import Problem
from sandgraph.telemetry.metrics import Metrics

router = router_of()

_EXAMPLE = (
    "# HELP sandgraph_runs_active Runs that are worked on.\n"
    "# TYPE sandgraph_runs_active gauge\n"
    "sandgraph_runs_active 3.0\n"
)

_TEXT = {
    "description": "The metrics, in Prometheus's text format or, for who accepts it, in OpenMetrics.",
    "content": {
        "text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE},
        "application/openmetrics-text": {"schema": {"type": "string"}, "example": f"{_EXAMPLE}# EOF\n"},
    },
}


@router.get(
    "/metrics",
    tags=["health"],
    summary="What it counts and measures",
    response_class=PlainTextResponse,
    responses={**answers({}, 403), 200: _TEXT},
)
async def metrics(request: Request, uses: Uses) -> Response:
    """Return what Prometheus collects: for programs on the same machine, and for keys of operators that may read."""
    if not (uses.settings.metrics_public or may_look(request)):
        message = (
            "Metrics are for programs on the same machine and for keys of the tenant default with the scope read or "
            "admin; SANDGRAPH_METRICS_PUBLIC lets everybody read them."
        )
        raise HttpError(403, Problem("", "metrics_private", message))
    # What is ready is looked at now, however seldom anybody asks for that alone.
    await uses.health.ready()
    found = cast("Metrics", request.app.state.metrics)
    text, content_type = found.exposition(request.headers.get("accept", ""))
    return Response(text, media_type=content_type, headers={"Cache-Control": "no-store"})
