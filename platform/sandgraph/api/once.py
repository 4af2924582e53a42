"""Requests with an Idempotency-Key are done once, however often they are sent; runs see to that by themselves."""

from __future__ import annotations

import hashlib
import logging
import re
from http import HTTPStatus
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandgraph.api.body import Pace, read_body
from sandgraph.api.problem import HttpError, respond
from sandgraph.api.services import Answers, Services, ServicesFor
from sandgraph.errors import Conflict, Problem, SandgraphError
from sandgraph.model.access import ANYBODY, Principal
from sandgraph.store.records import KeptAnswer

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"

#: Starting a run: the run is stored with its key, in one transaction.
_OF_RUNS = re.compile(r"/graph/(?:run|run_async|fork/[^/]*|resume/[^/]*)")

_KEY = re.compile(r"[\x20-\x7e]{1,255}")

#: Characters of an answer that is kept. Of a longer one it is kept that it was given.
_LONGEST = 256 * 1024

#: Headers that are part of an answer.
_KEPT = ("content-type", "location", "etag")

#: In the place of a body that is not kept: it was a secret, or too long.
_NOT_KEPT = ""


class Once:
    """Answers a request as the first one with its key was answered, where that went well.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # What is being done. One process serves a database.
        self._in_progress: set[tuple[str, str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = Headers(scope=scope).getlist(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else []
        if not given or _OF_RUNS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            await self._once(given, scope, receive, send)
        except (HttpError, SandgraphError) as error:
            await respond(error)(scope, receive, send)

    async def _once(self, given: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        if len(given) > 1 or not _KEY.fullmatch(given[0]):
            message = "It must be there once, with 1 to 255 visible characters."
            raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, Problem(HEADER, "invalid_value", message))
        principal: Principal = scope.get("state", {}).get("principal", ANYBODY)
        services = cast("ServicesFor", scope["app"].state.services)(principal.tenant)
        if services.answers is None:
            await self._app(scope, receive, send)
            return
        body = await _body(services, scope, receive)
        # Others of the tenant have keys of their own: what one may do, another may not see.
        place = (principal.tenant, f"POST {scope['path']}"[:512], f"{principal.subject}\n{given[0]}")
        if place in self._in_progress:
            message = "A request with this Idempotency-Key is being answered; ask again in a moment."
            raise Conflict(message, code="idempotency_in_progress")
        self._in_progress.add(place)
        try:
            fingerprint = hashlib.sha256(scope.get("query_string", b"") + b"\0" + body).hexdigest()
            known = await services.answers.find(*place)
            if known is not None:
                await _again(known, fingerprint)(scope, receive, send)
                return
            answer = _Answer(send)
            await self._app(scope, _replayed(body, receive), answer.send)
            await answer.finish(services.answers, place, fingerprint)
        finally:
            self._in_progress.discard(place)


class _Answer:
    """An answer on its way: its last part waits until it is kept, so that nobody asks again before."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._headers: dict[str, str] = {}
        self._is_secret = False
        self._body = bytearray()
        self._last: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            self._headers = {name: headers[name] for name in _KEPT if name in headers}
            self._is_secret = "no-store" in headers.get("cache-control", "")
        elif message["type"] == "http.response.body":
            if len(self._body) <= _LONGEST:
                self._body += message.get("body", b"")
            if not message.get("more_body"):
                self._last = message
                return
        await self._send(message)

    async def finish(self, answers: Answers, place: tuple[str, str, str], fingerprint: str) -> None:
        """Keep the answer if all went well, and send the rest of it."""
        if self._last is None:
            return
        if HTTPStatus.OK <= self._status < HTTPStatus.MULTIPLE_CHOICES:
            is_kept = not self._is_secret and len(self._body) <= _LONGEST
            text = self._body.decode("utf-8", "replace") if is_kept else _NOT_KEPT
            try:
                await answers.keep(*place, KeptAnswer(fingerprint, self._status, self._headers, text))
            except SandgraphError:
                # What was asked for is done, and to say otherwise would have it done again.
                logger.exception("an answer could not be kept", extra={"action": "answer_not_kept"})
        await self._send(self._last)


async def _body(services: Services, scope: Scope, receive: Receive) -> bytes:
    settings = services.settings
    return await read_body(Request(scope, receive), settings.max_body_kb * 1024, Pace(settings))


def _again(known: KeptAnswer, fingerprint: str) -> Response:
    if known.fingerprint != fingerprint:
        message = "This Idempotency-Key was used for another request; choose a new one."
        raise Conflict(message, code="idempotency_key_reused")
    if known.body == _NOT_KEPT:
        message = "This was done already, and its answer is not kept: it had a secret in it, or was too long."
        raise Conflict(message, code="idempotency_answer_gone")
    return Response(known.body, known.status, {**known.headers, "Idempotent-Replayed": "true"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then what comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
