"""How many streams there may be at the same time: WebSockets, and events that a server sends."""

from __future__ import annotations

from sandgraph.api.problem import HttpError
from sandgraph.errors import Problem
from sandgraph.execution.fairness import Shares
from sandgraph.model.access import ANYBODY, Principal

#: Seconds after which it is worth another try: one may have ended.
_RETRY_S = 5


class Streams:
    """The streams that there are.

    Args:
        most: In all; where they are all taken, a tenant may still have its share.
        most_each: Of one key or user; 0 for any number.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._by_tenant = Shares(most)
        self._by_principal = Shares(2 * most, lambda _: most_each or None)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_tenant)

    def enter(self, principal: Principal) -> None:
        """Count one more.

        Raises:
            HttpError: There are as many as there may be (``too_many_streams``).
        """
        name = _name(principal)
        if (principal is not ANYBODY and self._by_principal.is_bounded(name)) or not self._by_tenant.may_take(
            principal.tenant
        ):
            message = "As many streams are open as may be; close one, or try again later."
            raise HttpError(429, Problem("", "too_many_streams", message), {"Retry-After": str(_RETRY_S)})
        self._by_tenant.take(principal.tenant)
        self._by_principal.take(name)

    def leave(self, principal: Principal) -> None:
        """Count one less."""
        self._by_tenant.give_back(principal.tenant)
        self._by_principal.give_back(_name(principal))


def _name(principal: Principal) -> str:
    return f"{principal.tenant}/{principal.subject}"
