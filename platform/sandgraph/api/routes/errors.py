"""A page for each code, at the address that problem documents give as their `type`; public, as errors are."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sandgraph.api.problems import PAGES, TOPICS
from sandgraph.api.problems.page import Page
from sandgraph.api.problems.render import HEADERS, list_html, page_html
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import answers, known_id
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.error_answers import ErrorCodeAnswer, ErrorCodeList
from sandgraph.errors import NotFound

router = router_of("errors")

#: Pages are the same for everybody, until the next release.
_CACHED = {"Cache-Control": "public, max-age=3600", "Vary": "Accept"}
_HTML: dict[str, object] = {"text/html": {"schema": {"type": "string"}, "example": "<!doctype html>…"}}

Code = Annotated[str, Path(description="The code, as problem documents have it.", examples=["unknown_function"])]


class ErrorQuery(BaseModel):
    """Which codes are listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: int | None = Field(default=None, ge=400, le=599, description="Codes of answers of this status only.")


@router.get(
    "/errors",
    summary="List the codes of errors",
    responses=answers({200: (ErrorCodeList, "All of them.")}, 422, other=_HTML),
)
async def list_errors(request: Request, query: Annotated[ErrorQuery, Query()]) -> Response:
    """List every code that an answer or a run's error may have, each with its page; as HTML for who asks for that."""
    topics = {topic: [page for page in pages if _has(page, query.status)] for topic, pages in TOPICS.items()}
    if _wants_html(request):
        return HTMLResponse(list_html(topics), headers={**_CACHED, **HEADERS})
    return reply({"errors": [_view(page) for pages in topics.values() for page in pages]}, headers=_CACHED)


@router.get(
    "/errors/{code}",
    summary="Read about an error",
    responses=answers({200: (ErrorCodeAnswer, "The page.")}, 404, 422, other=_HTML),
)
async def get_error(request: Request, code: Code) -> Response:
    """Read what a code means and what to do about it; as HTML for who asks for that."""
    page = PAGES.get(known_id("error", code))
    if page is None:
        raise NotFound("error", code)
    if _wants_html(request):
        return HTMLResponse(page_html(page), headers={**_CACHED, **HEADERS})
    return reply(_view(page), headers=_CACHED)


def _has(page: Page, status: int | None) -> bool:
    return status is None or status in page.statuses


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "").lower()


def _view(page: Page) -> dict[str, object]:
    return {
        "code": page.code,
        "type": page.uri,
        "title": page.title,
        "statuses": list(page.statuses),
        "means": page.means,
        "todo": page.todo,
        "example": dict(page.example()),
    }
