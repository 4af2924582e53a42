"""What is to go away, and when: told with every answer of it (RFC 9745, RFC 8594), long before.

A route is deprecated by `DEPRECATED` and by ``deprecated=True`` where it is declared; docs/api.md has the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import format_datetime
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Deprecation:
    """That something is to go away.

    Attributes:
        since: From when on it should not be used.
        sunset: From when on it may be gone.
        page: Where it is told what to use instead.
    """

    since: date
    sunset: date
    page: str

    def headers(self) -> dict[str, str]:
        """Return what answers say of it."""
        since, sunset = (datetime(each.year, each.month, each.day, tzinfo=UTC) for each in (self.since, self.sunset))
        return {
            "Deprecation": f"@{int(since.timestamp())}",
            "Sunset": format_datetime(sunset, usegmt=True),
            "Link": f'<{self.page}>; rel="deprecation"; type="text/html"',
        }


#: By the name of the operation.
DEPRECATED: Mapping[str, Deprecation] = MappingProxyType({})


class Deprecations:
    """Says with each answer of a deprecated operation that it is one.

    Args:
        app: What it stands before.
        deprecated: By the name of the operation.
    """

    def __init__(self, app: ASGIApp, deprecated: Mapping[str, Deprecation] = DEPRECATED) -> None:
        self._app = app
        self._deprecated = deprecated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not self._deprecated:
            await self._app(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = getattr(scope.get("route"), "name", None)
                found = self._deprecated.get(name) if isinstance(name, str) else None
                if found is not None:
                    MutableHeaders(scope=message).update(found.headers())
            await send(message)

        await self._app(scope, receive, telling)
