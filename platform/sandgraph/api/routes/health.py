"""Whether the platform lives and can do its work, and where everything is."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from sandgraph.api.reply import reply
from sandgraph.api.routes.common import Uses, answers
from sandgraph.api.schemas.answers import HealthAnswer

router = APIRouter()


@router.get("/", include_in_schema=False)
async def index() -> Response:
    """Say where to go from here."""
    return reply({"name": "Sandgraph", "docs": "/docs", "openapi": "/openapi.json", "health": "/readyz"})


@router.get("/livez", tags=["health"], summary="Is it alive?", responses=answers({200: (HealthAnswer, "It answers.")}))
async def live() -> Response:
    """Answer, which is all that this says."""
    return reply({"status": "ok"})


@router.get(
    "/readyz", tags=["health"], summary="Can it work?", responses=answers({200: (HealthAnswer, "It can.")}, 503)
)
async def ready(uses: Uses) -> Response:
    """Check what the platform needs to run a graph: its database, and the Docker engine."""
    return reply({"status": "ready", **await uses.health.check()})
