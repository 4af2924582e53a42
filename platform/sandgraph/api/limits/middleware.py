"""What stands behind the authentication and counts: requests a minute, and streams at the same time."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandgraph.api.auth.public import is_probe
from sandgraph.api.limits.identities import address_of, kind_of, user_of
from sandgraph.api.limits.logins import Logins
from sandgraph.api.limits.rates import Rate, Rates, Standing
from sandgraph.api.limits.streams import Streams
from sandgraph.api.problem import HttpError, respond
from sandgraph.model.access import ANYBODY, Principal
from sandgraph.settings import Settings

_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


class Limits:
    """The bounds of a deployment, and what was counted of them.

    Args:
        settings: Of the deployment.
        of_tenant: Tells how often a tenant may ask in a minute; 0 for any number. As the settings say without it.
    """

    def __init__(self, settings: Settings, of_tenant: Callable[[str], int] | None = None) -> None:
        self.rates = Rates()
        self.streams = Streams(settings.max_streams, settings.key_max_streams)
        self.logins = Logins(self.rates, settings.address_failures_per_minute, settings.address_requests_per_minute)
        self._by_key = {
            "reads": settings.key_reads_per_minute,
            "writes": settings.key_writes_per_minute,
            "streams": settings.key_streams_per_minute,
        }
        self._of_tenant = of_tenant or (lambda _: settings.tenant_requests_per_minute)
        self._of_address = settings.address_requests_per_minute

    def take(self, scope: Scope, principal: Principal | None) -> Standing | None:
        """Count a request.

        Raises:
            HttpError: There were too many (``rate_limited``).
        """
        if principal is ANYBODY or is_probe(scope):
            # The deployment runs open, and there is nobody to be told apart; or whoever looks after it must not be told
            # that it does not answer because others ask from the same address.
            return None
        if principal is None or not principal.tenant:
            return self.rates.take([Rate("address", address_of(scope), self._of_address)])
        kind = kind_of(scope)
        return self.rates.take(
            [
                Rate(kind, user_of(principal), self._by_key[kind]),
                Rate("tenant", principal.tenant, self._of_tenant(principal.tenant)),
            ]
        )


class FairUse:
    """Counts who was let in, and lets nobody ask more often than may be.

    What the application has as ``state.limits`` decides; an application without them is part of a program.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request or WebSocket, and serve it."""
        limits = limits_of(scope)
        if limits is None:
            await self._app(scope, receive, send)
            return
        principal = scope.get("state", {}).get("principal")
        try:
            standing = limits.take(scope, principal)
            stream = _Stream(limits.streams, principal or ANYBODY)
            if scope["type"] == "websocket":
                stream.enter()
        except HttpError as refusal:
            await respond(refusal)(scope, receive, send)
            return
        is_refused = False

        async def counted(message: Message) -> None:
            nonlocal is_refused
            if is_refused:
                return
            if message["type"] in _STARTS:
                if Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream"):
                    try:
                        stream.enter()
                    except HttpError as refusal:
                        is_refused = True
                        await respond(refusal)(scope, receive, send)
                        return
                if standing is not None:
                    MutableHeaders(scope=message).update(standing.headers())
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            stream.leave()


class Doorkeeper:
    """Stands before the authentication, and turns away addresses that failed to say who they are too often.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or WebSocket through, and see how it went."""
        limits = limits_of(scope)
        if limits is None:
            await self._app(scope, receive, send)
            return
        try:
            limits.logins.look(scope)
        except HttpError as refusal:
            await respond(refusal)(scope, receive, send)
            return

        async def seen(message: Message) -> None:
            if message["type"] in _STARTS and message["status"] == HTTPStatus.UNAUTHORIZED:
                limits.logins.failed(scope)
            await send(message)

        await self._app(scope, receive, seen)
        limits.logins.ended(scope)


class _Stream:
    """One request's stream, if it has one."""

    def __init__(self, streams: Streams, principal: Principal) -> None:
        self._streams = streams
        self._principal = principal
        self._is_open = False

    def enter(self) -> None:
        self._streams.enter(self._principal)
        self._is_open = True

    def leave(self) -> None:
        if self._is_open:
            self._is_open = False
            self._streams.leave(self._principal)


def limits_of(scope: Scope) -> Limits | None:
    """Return the bounds of a request's application."""
    if scope["type"] not in {"http", "websocket"}:
        return None
    limits: Limits | None = getattr(scope["app"].state, "limits", None)
    return limits
