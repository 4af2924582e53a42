"""What a request or a WebSocket brings to be let in with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Scope

from sandgraph.api.auth.admission import denied
from sandgraph.errors import Problem
from sandgraph.model.api_key import MARK

#: Parameters that other services take keys in.
_PARAMETERS = frozenset({"access_token", "api_key", "apikey", "authorization", "id_token", "token"})

_TOKEN = re.compile(r"eyJ[\w-]*\.[\w-]*\.[\w-]*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What came.

    Attributes:
        bearer: A key or a token.
        ticket: A ticket.
    """

    bearer: str | None
    ticket: str | None


def credentials_of(scope: Scope) -> Credentials:
    """Return what a request brings.

    Raises:
        HttpError: It cannot be meant so, or it is a key in an address, which others get to read.
    """
    query = _query(scope)
    for name, value in query:
        if name.lower() in _PARAMETERS or value.startswith(MARK) or _TOKEN.fullmatch(value):
            message = (
                "A key or a token in an address ends up in logs and histories: this one should be revoked. "
                "Send it in the header Authorization, or ask POST /tickets for a ticket."
            )
            raise denied(Problem(name if name.isidentifier() else "", "credentials_in_url", message))
    tickets = [value for name, value in query if name == "ticket"]
    headers = Headers(scope=scope).getlist("authorization")
    if len(headers) + len(tickets) > 1:
        raise denied(Problem("", "credentials_malformed", "Send one key, one token or one ticket."))
    return Credentials(_bearer(headers[0]) if headers else None, tickets[0] if tickets else None)


def without_ticket(query: bytes) -> bytes:
    """Return a query without its ticket, which is used up: no route has to know of it, and no log."""
    return b"&".join(part for part in query.split(b"&") if _name(part) != b"ticket")


def _name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0])


def _bearer(header: str) -> str:
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or not value.isascii() or " " in value:
        message = "The header Authorization must be Bearer, a space, and the key or the token."
        raise denied(Problem("", "credentials_malformed", message))
    return value


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
