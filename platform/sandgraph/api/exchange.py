"""One request or WebSocket, watched from its first byte to its last: what the access log says of it."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.types import Message, Scope

from sandgraph.model.access import Principal

access = logging.getLogger("sandgraph.access")

#: The route of what no route takes: whatever is asked for, there is one name for it.
NO_ROUTE = "unmatched"


class Exchange:
    """Collects what is sent, and tells of it once it is over.

    Args:
        scope: Of the request or WebSocket; its route is known once it was found.
    """

    def __init__(self, scope: Scope) -> None:
        self.request_id = uuid.uuid4().hex
        self.is_http = scope["type"] == "http"
        #: The status of the answer, or the code with which a WebSocket was closed; 0 where nothing was sent.
        self.status = 0
        self._scope = scope
        self._began = time.monotonic()
        self._bytes = 0

    @property
    def route(self) -> str:
        """The template of its path, such as ``/graph/status/{run_id}``."""
        return str(getattr(self._scope.get("route"), "path", NO_ROUTE))

    @property
    def method(self) -> str:
        """The request's method; ``WS`` of a WebSocket."""
        return str(self._scope["method"]) if self.is_http else "WS"

    @property
    def tenant(self) -> str | None:
        """Whose request it was; None where nobody was let in."""
        principal = self._scope.get("state", {}).get("principal")
        return principal.tenant if isinstance(principal, Principal) else None

    def note(self, message: Message) -> None:
        """Take what is sent."""
        match message["type"]:
            case "http.response.start":
                self.status = message["status"]
            case "http.response.body":
                self._bytes += len(message.get("body", b""))
            case "websocket.send":
                self._bytes += len(message.get("bytes") or message.get("text") or "")
            case "websocket.close":
                self.status = message.get("code", 1000)
            case _:
                pass

    def end(self) -> None:
        """Tell of it."""
        path = self._scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0]
        about = {
            "action": "request" if self.is_http else "websocket",
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "ms": round((time.monotonic() - self._began) * 1000, 1),
            "bytes": self._bytes,
            "request_id": self.request_id,
            "tenant": self.tenant,
        }
        access.info("%s %s %s", self.method, path, self.status, extra=about)
