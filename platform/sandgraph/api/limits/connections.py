"""What a connection may cost: how many there are, how long a request's head takes, how slowly an answer is taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandgraph.api.limits.identities import network_of
from sandgraph.api.problem import MEDIA_TYPE, document
from sandgraph.settings import Settings


class _Timer:
    """A call to come, or none."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether there is one."""
        return self._handle is not None

    def start(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call something later, and not what was to be called before."""
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(delay_s, callback)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, for clients that may be slow on purpose; see `protocol_for`.

    The server's own timer runs only while a connection idles between two requests: one byte of the next request ends
    it, and nothing bounds how long the rest takes, nor how long an answer waits to be taken.
    """

    settings: ClassVar[Settings]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        self.timeout_keep_alive = self.settings.idle_timeout_s  # type: ignore[assignment]
        self._head_timer, self._send_timer = _Timer(), _Timer()
        if self._is_one_too_many():
            message = "As many connections are open as may be; try again later."
            self._refuse(503, "too_many_connections", message, retry_after_s=5)
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._head_timer.stop()
        self._send_timer.stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; the rest of a request's head has to follow in time."""
        if self.transport.is_closing():
            return
        if self._is_between_requests() and not self._head_timer.runs:
            self._expect_head()
        super().data_received(data)
        if not self._is_between_requests():
            self._head_timer.stop()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket's protocol, which bounds what it sends by itself."""
        self._head_timer.stop()
        self._send_timer.stop()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent, for so long."""
        super().pause_writing()
        self._send_timer.start(self.settings.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._send_timer.stop()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that idles; what its client did not take of the last answer does not keep it open."""
        super().timeout_keep_alive_handler()
        self._send_timer.start(self.settings.send_timeout_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or whose head is too large, as every error is answered."""
        self._refuse(400, "bad_request", msg)

    def _expect_head(self) -> None:
        self._head_timer.start(self.settings.header_timeout_s, self._on_slow_head)

    def _on_slow_head(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "request_too_slow", "The head of the request did not arrive in time.")

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > self.settings.max_connections:
            return True
        most, own = self.settings.address_max_connections, network_of(self.client)
        # Counted anew each time: of those that became WebSockets, another protocol knows when they end.
        return bool(most) and sum(network_of(getattr(each, "client", None)) == own for each in self.connections) > most

    def _refuse(self, status: int, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        body = json.dumps(document(status, code, message)).encode()
        head = [f"HTTP/1.1 {status} ", f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}"]
        if retry_after_s is not None:
            head.append(f"retry-after: {retry_after_s}")
        # Past h11, which knows of no request yet.
        self.transport.write("\r\n".join([*head, "connection: close", "", ""]).encode() + body)
        self.transport.close()
        self._send_timer.start(self.settings.send_timeout_s, self.transport.abort)


def protocol_for(settings: Settings) -> type[BoundedProtocol]:
    """Return the protocol for a deployment: uvicorn makes one of each connection."""
    return type("Protocol", (BoundedProtocol,), {"settings": settings})
