"""What a request's head may look like, before anybody is asked anything."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from sandgraph.api.problem import HttpError, respond
from sandgraph.errors import Problem

#: Bytes of a path: names and ids in it have at most some hundred.
MAX_PATH_BYTES = 4_096

#: Bytes of a query: a cursor has a thousand at most, a scope some thousands.
MAX_QUERY_BYTES = 16_384

#: Parameters of a query; no route has as many.
MAX_PARAMETERS = 100

#: Bytes of the names and values of headers, if they came in one piece: else the server's bound is `max_header_kb`.
MAX_HEADER_BYTES = 32 * 1024

#: Headers; browsers behind a few proxies send some thirty.
MAX_HEADERS = 100


class Shape:
    """Turns away what no client of ours sends.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or WebSocket through."""
        refusal = _refusal(scope) if scope["type"] in {"http", "websocket"} else None
        await (self._app if refusal is None else respond(refusal))(scope, receive, send)


def _refusal(scope: Mapping[str, object]) -> HttpError | None:
    path, query, headers = scope.get("raw_path") or b"", scope.get("query_string") or b"", scope["headers"]
    if not isinstance(path, bytes) or not isinstance(query, bytes) or not isinstance(headers, list):
        raise TypeError("the server does not speak ASGI")
    if len(path) > MAX_PATH_BYTES:
        return _refused(HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", f"A path may have {MAX_PATH_BYTES} bytes.")
    if len(query) > MAX_QUERY_BYTES:
        return _refused(HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", f"A query may have {MAX_QUERY_BYTES} bytes.")
    if query.count(b"&") >= MAX_PARAMETERS:
        message = f"A query may have {MAX_PARAMETERS} parameters."
        return _refused(HTTPStatus.REQUEST_URI_TOO_LONG, "too_many_parameters", message)
    if len(headers) > MAX_HEADERS:
        message = f"A request may have {MAX_HEADERS} headers."
        return _refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers", message)
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        message = f"The headers of a request may have {MAX_HEADER_BYTES} bytes."
        return _refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", message)
    return None


def _refused(status: HTTPStatus, code: str, message: str) -> HttpError:
    return HttpError(status, Problem("", code, message))
