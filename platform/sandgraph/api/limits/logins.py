"""How often an address may come with what opens nothing."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from sandgraph.api.auth.public import is_public
from sandgraph.api.limits.identities import address_of
from sandgraph.api.limits.rates import Rate, Rates
from sandgraph.api.problem import HttpError
from sandgraph.model.access import ANYBODY, Principal

#: Credentials that are remembered as good, by a digest of them.
_REMEMBERED = 4_096


class Logins:
    """Counts requests that were not let in, by address.

    Whoever shares an address with somebody who guesses is let in with what was good before: behind a proxy that does
    not say whom it speaks for, all have one address.

    Args:
        rates: Counts.
        most: Failures a minute; 0 for any number.
        most_without: Requests a minute that come with nothing.
    """

    def __init__(self, rates: Rates, most: int, most_without: int) -> None:
        self._rates = rates
        self._most = most
        self._most_without = most_without
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def look(self, scope: Scope) -> None:
        """Do nothing, unless an address has failed too often and comes with something new.

        Raises:
            HttpError: It has (``rate_limited``).
        """
        digest = _digest(scope)
        # What is public is counted by itself: a proxy's clients share an address with its probes.
        is_free = is_public(scope) if digest is None else digest in self._good
        if not is_free:
            self._rates.look(self._rate(scope, digest))

    def failed(self, scope: Scope) -> None:
        """Note that a request was not let in."""
        digest = _digest(scope)
        if digest is not None:
            self._good.pop(digest, None)
        # It is only noted: what was refused is answered already.
        with suppress(HttpError):
            self._rates.take([self._rate(scope, digest)])

    def ended(self, scope: Scope) -> None:
        """Note what a request was let in with."""
        digest = _digest(scope)
        principal = scope.get("state", {}).get("principal")
        if digest is not None and isinstance(principal, Principal) and principal.tenant and principal is not ANYBODY:
            self._good[digest] = None
            self._good.move_to_end(digest)
            while len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)

    def _rate(self, scope: Scope, digest: bytes | None) -> Rate:
        if digest is None:
            return Rate("nameless", address_of(scope), self._most_without)
        return Rate("failures", address_of(scope), self._most)


def _digest(scope: Scope) -> bytes | None:
    """Return what names the credentials of a request; None where it has none."""
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    query = scope.get("query_string", b"")
    if b"ticket" in unquote_to_bytes(query):
        sent.append(query)
    return hashlib.sha256(b"\0".join(sent)).digest() if sent else None
