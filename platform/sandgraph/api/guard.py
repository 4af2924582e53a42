"""What stands before every route: no stranger's web page gets in, and no exception gets out."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandgraph.api.exchange import Exchange
from sandgraph.api.problem import HttpError, respond
from sandgraph.errors import Problem
from sandgraph.telemetry import context, trace
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans

logger = logging.getLogger(__name__)

_READING = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Gives each request an id, logs it, and answers for what no handler answered for.

    Args:
        app: What it guards.
        metrics: Count what comes.
        spans: Take what was done when.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics | None = None, spans: Spans | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._spans = spans or Spans()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request or WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, self._metrics, self._spans)
        ids = {"request_id": exchange.request_id, **exchange.trace_ids}
        with context.bind(**ids), trace.within(exchange.span):
            try:
                await self._guarded(scope, receive, send, exchange)
            finally:
                exchange.end()

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        request_id = exchange.request_id

        async def watched(message: Message) -> None:
            exchange.note(message)
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            if _is_foreign(scope):
                await _refuse(scope, receive, watched)
            else:
                await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as error:
            logger.exception(
                "request %s failed", request_id, extra={"action": "internal_error", "request_id": request_id}
            )
            if exchange.status or not exchange.is_http:
                raise
            await respond(error)(scope, receive, watched)


def _is_foreign(scope: Scope) -> bool:
    """Tell whether another site's page makes a browser send this.

    A browser sends simple forms and WebSockets anywhere without asking. Other clients say nothing of an origin.
    """
    if scope["type"] == "http" and scope["method"] in _READING:
        return False
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "cross-origin"})
        return
    problem = Problem("", "cross_origin", "Web pages of other origins may not call this API.")
    await respond(HttpError(403, problem))(scope, receive, send)
