"""One request or WebSocket, watched from its first byte to its last: what the access log says of it."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import ExitStack

from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers
from starlette.types import Message, Scope

from sandgraph.model.access import Principal
from sandgraph.telemetry import trace
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans

access = logging.getLogger("sandgraph.access")

#: The route of what no route takes: whatever is asked for, there is one name for it.
NO_ROUTE = "unmatched"

#: Asked for every few seconds, by machines.
_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})

_BAD, _FAILED = 400, 500

#: Clients may send any word for one.
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


class Exchange:
    """Collects what is sent, and tells of it once it is over.

    Args:
        scope: Of the request or WebSocket; its route is known once it was found.
        metrics: Count it.
        spans: Take what was done when.
    """

    def __init__(self, scope: Scope, metrics: Metrics | None = None, spans: Spans | None = None) -> None:
        self._spans = spans or Spans()
        self._began_ns = time.time_ns()
        self._caller = trace.parse(Headers(scope=scope).get(trace.HEADER))
        #: What the request is in its trace: a part of the caller's, or the first of a new one.
        self.span = self._own_span(self._caller)
        self._metrics = metrics
        self._first_byte: float | None = None
        self._following = ExitStack()
        self.request_id = uuid.uuid4().hex
        self.is_http = scope["type"] == "http"
        #: The status of the answer, or the code with which a WebSocket was closed; 0 where nothing was sent.
        self.status = 0
        self._scope = scope
        self._began = time.monotonic()
        self._bytes = 0

    @property
    def trace_ids(self) -> dict[str, str]:
        """What lines that are logged meanwhile say of the trace."""
        return {} if self.span is None else {"trace_id": self.span.trace_id, "span_id": self.span.span_id}

    @property
    def route(self) -> str:
        """The template of its path, such as ``/graph/status/{run_id}``."""
        return str(getattr(self._scope.get("route"), "path", NO_ROUTE))

    @property
    def method(self) -> str:
        """The request's method; ``WS`` of a WebSocket."""
        if not self.is_http:
            return "WS"
        method = str(self._scope["method"])
        return method if method in _METHODS else "OTHER"

    @property
    def principal(self) -> Principal | None:
        """Whose request it was; None where nobody was let in."""
        principal = self._scope.get("state", {}).get("principal")
        # Who came without credentials is nobody, and of no tenant.
        return principal if isinstance(principal, Principal) and principal.tenant else None

    def note(self, message: Message) -> None:
        """Take what is sent."""
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                self._first_byte = time.monotonic()
                if _is_stream(message):
                    self._follows("sse")
            case "http.response.body" | "websocket.http.response.body":
                self._bytes += len(message.get("body", b""))
            case "websocket.send":
                self._bytes += len(message.get("bytes") or message.get("text") or "")
            case "websocket.accept":
                self._follows("websocket")
            case "websocket.close":
                self.status = message.get("code", 1000)
            case _:
                pass

    def end(self) -> None:
        """Tell of it."""
        self._following.close()
        if self._metrics is not None:
            waited = None if self._first_byte is None else self._first_byte - self._began
            self._metrics.requested(self.method, self.route, self.status, waited)
        who = self.principal
        path = self._scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0]
        about = {
            "action": "request" if self.is_http else "websocket",
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "ms": round((time.monotonic() - self._began) * 1000, 1),
            "bytes": self._bytes,
            "request_id": self.request_id,
            "tenant": who.tenant if who else None,
            "subject": who.subject if who else None,
        }
        self._record()
        # What machines ask every few seconds is of no interest as long as all is well.
        is_dull = self.route in _UNTRACED and self.status < _BAD
        level = logging.DEBUG if is_dull else logging.INFO
        access.log(level, "%s %s %s", self.method, path, self.status, extra=about)

    def _own_span(self, caller: trace.SpanRef | None) -> trace.SpanRef | None:
        if caller is None:
            return self._spans.root()
        # Where nobody records it, the caller's own is what runs are part of.
        return caller.new() if self._spans.is_on else caller

    def _record(self) -> None:
        # Who only asks whether it lives begins no trace.
        if self.span is None or not self._spans.is_on or (self._caller is None and self.route in _UNTRACED):
            return
        about: dict[str, str | int | float | bool] = {
            "http.request.method": self.method,
            "http.route": self.route,
            "http.response.status_code": self.status,
        }
        if (who := self.principal) is not None:
            about["sandgraph.tenant"] = who.tenant
        self._spans.record(
            f"{self.method} {self.route}",
            self.span,
            self._caller,
            self._began_ns,
            time.time_ns(),
            about,
            kind=SpanKind.SERVER,
            error=f"HTTP {self.status}" if self.is_http and self.status >= _FAILED else None,
        )

    def _follows(self, transport: str) -> None:
        if self._metrics is not None:
            self._following.enter_context(self._metrics.following(transport))


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
