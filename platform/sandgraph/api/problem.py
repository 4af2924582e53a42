"""Errors as problem+json (RFC 9457): one form, a stable code, and the path of each field that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sandgraph.api.problems import PAGES
from sandgraph.api.problems.page import title_of, uri_of
from sandgraph.api.schemas.validation import from_pydantic
from sandgraph.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    QueueFull,
    SandgraphError,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"

#: Problems listed in one answer; the detail says how many there are.
_MOST_LISTED = 100

#: Seconds after which a part that did not answer is worth another try.
_RETRY_UNAVAILABLE_S = 5

# The first class that fits gives the status.
_STATUSES: tuple[tuple[type[SandgraphError], int], ...] = (
    (PayloadTooLarge, 413),
    (InvalidInput, 422),
    (NotFound, 404),
    (Conflict, 409),
    (PreconditionFailed, 412),
    (QueueFull, 429),
    (Unavailable, 503),
)

_HTTP_CODES = {404: "route_not_found", 405: "method_not_allowed"}

# Where the missing thing was named.
_FIELDS = {
    "graph": "graph_id",
    "run": "run_id",
    "checkpoint": "at",
    "node_run": "node",
    "attempt": "attempt",
    "function": "name",
    "tool": "name",
    "webhook": "webhook_id",
    "delivery": "delivery_id",
    "key": "key_id",
    "error": "code",
}


class HttpError(Exception):
    """An error of the HTTP exchange itself: no part behind the API was asked.

    Args:
        status: Of the answer.
        problem: What is wrong.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.message)
        self.status = status
        self.problem = problem
        self.headers = headers


def document(status: int, code: str, detail: str, problems: Sequence[Problem] = ()) -> dict[str, object]:
    """Return the members of a problem+json document."""
    return {
        "type": uri_of(code),
        "title": title_of(code),
        "status": status,
        "code": code,
        "detail": detail,
        "errors": [_listed(problem) for problem in problems[:_MOST_LISTED]],
    }


def describe(error: Exception) -> tuple[dict[str, object], dict[str, str]]:
    """Return an error's document and headers; what is no error of ours is told without its internals."""
    match error:
        case HttpError():
            listed = [error.problem]
            return document(error.status, error.problem.code, error.problem.message, listed), dict(error.headers or {})
        case RequestValidationError():
            # The first part of a location is where the parameter was: query, path or header.
            return describe(InvalidInput(from_pydantic(error.errors(), skip=1)))
        case HTTPException():
            code = _http_code(error.status_code)
            return document(error.status_code, code, str(error.detail)), dict(error.headers or {})
        case SandgraphError():
            status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
            if status < HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, Unavailable):
                return document(status, error.code, error.message, _problems(error)), _headers(error)
        case _:
            pass
    return document(500, "internal_error", "Something went wrong inside the platform; its log says what."), {}


def respond(error: Exception) -> Response:
    """Return the answer that tells of an error."""
    members, headers = describe(error)
    return Response(
        json.dumps(members, ensure_ascii=False).encode("utf-8", "replace"),
        status_code=int(str(members["status"])),
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def install(app: FastAPI) -> None:
    """Let every error that a route raises be answered by `respond`, but for those that `Guard` is there for."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            error = HTTPException(error.status_code, error.detail, _allow(app, request, error))
        response = respond(error)
        if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise error  # the guard logs it and answers
        return response

    for kind in (HttpError, SandgraphError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def _allow(app: FastAPI, request: Request, error: HTTPException) -> dict[str, str]:
    """Return which methods a path takes; the framework knows of one route only, where there are several."""
    path = request.scope["path"]
    described = app.openapi()["paths"]
    template = path if path in described else next((each for each in described if _fits(each, path)), None)
    if template is None:
        return dict(error.headers or {})
    return {"Allow": ", ".join(sorted(method.upper() for method in described[template]))}


def _fits(template: str, path: str) -> bool:
    parts, wanted = path.split("/"), template.split("/")
    return len(parts) == len(wanted) and all(
        each.startswith("{") or each == part for each, part in zip(wanted, parts, strict=True)
    )


def _http_code(status: int) -> str:
    phrase = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    general = "bad_request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal_error"
    return _HTTP_CODES.get(status, phrase if phrase in PAGES else general)


def _problems(error: SandgraphError) -> Sequence[Problem]:
    if isinstance(error, InvalidInput):
        return error.problems
    if isinstance(error, NotFound):
        field = _FIELDS.get(error.code.removesuffix("_not_found"))
        return [Problem(field, error.code, error.message)] if field else []
    return []


def _headers(error: SandgraphError) -> dict[str, str]:
    if isinstance(error, QueueFull):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Retry-After": str(_RETRY_UNAVAILABLE_S)} if isinstance(error, Unavailable) else {}


def _listed(problem: Problem) -> dict[str, object]:
    listed: dict[str, object] = {"path": problem.path, "code": problem.code, "message": problem.message}
    if problem.line is not None:
        listed["line"] = problem.line
    if problem.column is not None:
        listed["column"] = problem.column
    return listed
