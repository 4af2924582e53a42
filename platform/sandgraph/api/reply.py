"""Answers as JSON, written without a detour: states may be large, and are checked where they come in."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from sandgraph.api.etags import etag_of, matches

# Made once: a short answer is written in the time that it takes to make one.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)


def to_json(value: object) -> str:
    """Return the JSON text of what is already plain data; what is no Unicode in it is replaced."""
    return _to_bytes(value).decode()


def reply(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer."""
    return Response(_to_bytes(value), status_code=status, headers=headers, media_type="application/json")


def reply_unless_known(request: Request, value: object, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with its ETag; to a client that has this very answer already, 304 without a body."""
    body = _to_bytes(value)
    tag = etag_of(body)
    headers = {**(headers or {}), "ETag": tag, "Cache-Control": "private, no-cache"}
    if matches(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _to_bytes(value: object) -> bytes:
    return _ENCODER.encode(value).encode("utf-8", "replace")
