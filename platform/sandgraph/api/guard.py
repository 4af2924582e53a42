"""What stands before every route: no stranger's web page gets in, and no exception gets out."""

from __future__ import annotations

import logging
import time
import uuid
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandgraph.api.problem import HttpError, respond
from sandgraph.errors import Problem

logger = logging.getLogger(__name__)
access = logging.getLogger("sandgraph.access")

_READING = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Gives each request an id, logs it, and answers for what no handler answered for.

    Args:
        app: What it guards.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request or WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id, began = uuid.uuid4().hex, time.monotonic()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
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
            if status or scope["type"] != "http":
                raise
            await respond(error)(scope, receive, watched)
        finally:
            if scope["type"] == "http":
                path = scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0]
                spent = (time.monotonic() - began) * 1000
                access.info("%s %s %s %.1f ms %s", scope["method"], path, status, spent, request_id)


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
