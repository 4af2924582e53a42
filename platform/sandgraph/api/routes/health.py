"""Whether the platform lives and can do its work, and where everything is."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from sandgraph.api.peers import may_look
from sandgraph.api.problem import MEDIA_TYPE, document
from sandgraph.api.reply import reply, to_json
from sandgraph.api.routes.common import Uses, answers
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.answers import HealthAnswer
from sandgraph.errors import Problem
from sandgraph.execution.health import STOPPING
from sandgraph.execution.health_report import HealthReport

router = router_of()

#: Seconds after which it is worth asking again.
_RETRY_S = 5


@router.get("/", include_in_schema=False)
async def index() -> Response:
    """Say where to go from here."""
    return reply({"name": "Sandgraph", "docs": "/docs", "openapi": "/openapi.json", "health": "/readyz"})


@router.get(
    "/livez", tags=["health"], summary="Is it alive?", responses=answers({200: (HealthAnswer, "It works.")}, 503)
)
async def live(request: Request, uses: Uses) -> Response:
    """Tell whether the process works: the event loop turns, and the database's thread and the heart with it."""
    report = uses.health.alive()
    if report.is_ok:
        return reply({"status": "ok"}, headers={"Cache-Control": "no-store"})
    return _failed(report, "not_alive", "The process does not work any more", details=may_look(request))


@router.get(
    "/readyz", tags=["health"], summary="Can it work?", responses=answers({200: (HealthAnswer, "It can.")}, 503)
)
async def ready(request: Request, uses: Uses) -> Response:
    """Check what the platform needs to take runs and do them; details are for this machine."""
    report, details = await uses.health.ready(), may_look(request)
    if any(each.name == STOPPING and not each.is_ok for each in report.checks):
        return _failed(report, "shutting_down", "The platform is being stopped", details=details)
    if not report.is_ok:
        return _failed(report, "not_ready", "The platform cannot take runs and do them at present", details=details)
    checks = [
        {"name": each.name, "status": "ok", **({"detail": each.detail} if details else {})} for each in report.checks
    ]
    facts = report.facts if details else {}
    return reply({"status": "ready", "checks": checks, **facts}, headers={"Cache-Control": "no-store"})


def _failed(report: HealthReport, code: str, what: str, *, details: bool) -> Response:
    failed = [each for each in report.checks if not each.is_ok]
    problems = [Problem(each.name, "check_failed", each.detail if details else "This check failed.") for each in failed]
    names = ", ".join(each.name for each in failed)
    text = to_json(document(503, code, f"{what}: {names}.", problems))
    headers = {"Retry-After": str(_RETRY_S), "Cache-Control": "no-store"}
    return Response(text, status_code=503, headers=headers, media_type=MEDIA_TYPE)
