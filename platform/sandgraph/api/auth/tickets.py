"""Tickets: what a browser opens a stream with, as it can send no header with it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from sandgraph.api.auth.admission import Admission, denied
from sandgraph.api.problem import HttpError
from sandgraph.errors import Problem

#: Seconds for which a ticket is good.
GOOD_FOR_S = 30

#: Tickets that are out at the same time, of all and of one principal.
_MOST, _MOST_EACH = 10_000, 100

_MARK = "sgt_"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Issued:
    admission: Admission
    path: str
    until: float


class Tickets:
    """Gives tickets and takes them, each once; they are in memory alone, and end with the process.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: In the order in which they end, which is that in which they were made.
        self._issued: dict[str, _Issued] = {}

    def issue(self, admission: Admission, path: str) -> str:
        """Return a ticket to one path for whoever was let in.

        Raises:
            HttpError: Too many are out.
        """
        self._drop_old()
        principal = admission.principal
        own = sum(
            (each.admission.principal.tenant, each.admission.principal.subject) == (principal.tenant, principal.subject)
            for each in self._issued.values()
        )
        if own >= _MOST_EACH or len(self._issued) >= _MOST:
            problem = Problem("", "too_many_tickets", "Too many tickets are out; use those, or wait until they end.")
            raise HttpError(HTTPStatus.TOO_MANY_REQUESTS, problem, {"Retry-After": str(GOOD_FOR_S)})
        ticket = _MARK + secrets.token_urlsafe(_BYTES)
        self._issued[ticket] = _Issued(admission, path, self._clock() + GOOD_FOR_S)
        return ticket

    def redeem(self, ticket: str, path: str) -> Admission:
        """Return whose ticket it is, and let it be used up, also where it was shown in the wrong place.

        Raises:
            HttpError: There is no such ticket to that path any more.
        """
        # A lookup by hash tells by its time whether two texts are the same, and nothing of one that is near.
        issued = self._issued.pop(ticket, None)
        if issued is None or issued.until <= self._clock() or issued.path != path:
            message = f"This ticket is not good here: each is for one path, once, within {GOOD_FOR_S} seconds."
            raise denied(Problem("", "ticket_invalid", message))
        return issued.admission

    def _drop_old(self) -> None:
        now = self._clock()
        while self._issued:
            first = next(iter(self._issued))
            if self._issued[first].until > now:
                return
            del self._issued[first]
