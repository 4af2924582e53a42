"""Asks everybody who they are before any route is found, and goes on asking while something is streamed to them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandgraph.api.auth.admission import NOBODY, Admission
from sandgraph.api.auth.credentials import credentials_of, without_ticket
from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.public import SELF_DECIDING, is_public
from sandgraph.api.problem import HttpError, respond
from sandgraph.errors import Problem, SandgraphError, Unavailable

logger = logging.getLogger(__name__)

#: Seconds between two times that it is asked whether who gets a stream may have it still.
CHECK_S = 15.0

#: A WebSocket that may go on no more is closed with this.
UNAUTHENTICATED = 4401

#: Names of this machine for itself. A page of a foreign site whose name leads here has that site's name as its host.
_OWN_NAMES = frozenset({"127.0.0.1", "[::1]", "localhost"})


class Authentication:
    """Puts who asks at ``connection.state.principal``, and lets nobody else in.

    What the application has as ``state.gate`` decides; an application without one is part of a program, and serves it.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or WebSocket in, or refuse it."""
        gate: Gate | None = None
        if scope["type"] in {"http", "websocket"}:
            gate = getattr(scope["app"].state, "gate", None)
        if gate is None:
            await self._app(scope, receive, send)
            return
        try:
            admission = await _admit(gate, scope)
        except (HttpError, SandgraphError) as error:
            await respond(error)(scope, receive, send)
            return
        scope.setdefault("state", {}).update(principal=admission.principal, admission=admission)
        if admission.principal is NOBODY:
            await self._app(scope, receive, send)
        else:
            await self._watched(gate, admission, scope, receive, send)

    async def _watched(self, gate: Gate, admission: Admission, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; what takes long is ended once who gets it may have it no more."""
        limit = asyncio.timeout(None)
        watch: asyncio.Task[None] | None = None
        refusals: list[HttpError] = []
        is_over = is_events = False

        async def keep_asking() -> None:
            refusals.append(await _refusal(gate, admission))
            limit.reschedule(asyncio.get_running_loop().time())

        async def watching(message: Message) -> None:
            nonlocal watch, is_over, is_events
            kind = message["type"]
            if kind == "http.response.start":
                is_events = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            is_over = kind == "websocket.close" or (kind == "http.response.body" and not message.get("more_body"))
            is_long = kind == "websocket.accept" or (kind == "http.response.body" and not is_over)
            if is_long and watch is None:
                watch = asyncio.create_task(keep_asking(), name="admission")
            await send(message)

        try:
            async with limit:
                try:
                    await self._app(scope, receive, watching)
                finally:
                    if watch is not None:
                        watch.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            if not is_over:
                await _end(scope, refusals[0], send, is_events=is_events)


async def _admit(gate: Gate, scope: Scope) -> Admission:
    if is_public(scope):
        return Admission(NOBODY)
    brought = credentials_of(scope)
    if brought.ticket is not None:
        admission = gate.tickets.redeem(brought.ticket, scope["path"])
        scope["query_string"] = without_ticket(scope["query_string"])
        await gate.check(admission)
        return admission
    if brought.bearer is None and scope["path"] in SELF_DECIDING and not await gate.is_open():
        return Admission(NOBODY)
    admission = await gate.admit(brought.bearer)
    if admission.is_open and gate.is_local:
        _demand_own_name(scope)
    return admission


def _demand_own_name(scope: Scope) -> None:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name.lower() not in _OWN_NAMES:
        message = (
            "Without keys this deployment serves its own machine alone, as 127.0.0.1 or localhost, and under no other "
            "name: a web page could make one up. Make a key (sandgraph keys create) to use it under this one."
        )
        raise HttpError(HTTPStatus.FORBIDDEN, Problem("", "host_not_allowed", message))


async def _refusal(gate: Gate, admission: Admission) -> HttpError:
    """Return why somebody may go on no more, once that is so."""
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await gate.check(admission)
        except HttpError as refusal:
            return refusal
        except Unavailable:
            # Who was let in stays, as long as nobody can tell.
            continue


async def _end(scope: Scope, refusal: HttpError, send: Send, *, is_events: bool) -> None:
    logger.info("a stream was ended", extra={"action": "stream_ended", "reason": refusal.problem.code})
    with suppress(RuntimeError, OSError):
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": UNAUTHENTICATED, "reason": refusal.problem.code})
        elif is_events:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # Of anything else there is more, which must not look as if there was not: the server breaks the connection.
