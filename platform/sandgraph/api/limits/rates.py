"""How often somebody may ask: requests a minute, by what they are, of a key, a tenant or an address."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from limits import RateLimitItemPerMinute
from limits.strategies import SlidingWindowCounterRateLimiter

from sandgraph.api.limits.storage import BoundedStorage
from sandgraph.api.problem import HttpError
from sandgraph.errors import Problem

#: Seconds of the window that requests are counted in.
WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit, and whose it is.

    Attributes:
        name: Of the policy, as the headers have it.
        identity: Whose requests are counted.
        most: Requests a minute; 0 for any number.
    """

    name: str
    identity: str
    most: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a limit is left."""

    rate: Rate
    left: int
    resets_s: int

    def headers(self) -> dict[str, str]:
        """Return what the headers of draft-ietf-httpapi-ratelimit-headers say of it."""
        return {
            "RateLimit-Policy": f'"{self.rate.name}";q={self.rate.most};w={WINDOW_S}',
            "RateLimit": f'"{self.rate.name}";r={self.left};t={self.resets_s}',
        }


class Rates:
    """Counts requests.

    Args:
        storage: Where.
        clock: Of the storage.
    """

    def __init__(self, storage: BoundedStorage | None = None, clock: Callable[[], float] = time.time) -> None:
        self._strategy = SlidingWindowCounterRateLimiter(BoundedStorage(clock=clock) if storage is None else storage)
        self._clock = clock

    def take(self, rates: Sequence[Rate]) -> Standing | None:
        """Count a request under all limits, and return the one of which the least is left; None where there is none.

        Raises:
            HttpError: One of them is used up (``rate_limited``); nothing was counted under those that follow it.
        """
        standings = []
        for rate in rates:
            if rate.most:
                if not self._strategy.hit(_item(rate), rate.name, rate.identity):
                    raise refused(self._standing(rate))
                standings.append(self._standing(rate))
        return min(standings, key=lambda each: each.left / each.rate.most, default=None)

    def look(self, rate: Rate) -> None:
        """Do nothing, unless a limit is used up.

        Raises:
            HttpError: It is.
        """
        if rate.most and not self._strategy.test(_item(rate), rate.name, rate.identity):
            raise refused(self._standing(rate))

    def _standing(self, rate: Rate) -> Standing:
        stats = self._strategy.get_window_stats(_item(rate), rate.name, rate.identity)
        return Standing(rate, stats.remaining, max(1, math.ceil(stats.reset_time - self._clock())))


def refused(standing: Standing) -> HttpError:
    """Return the error for who has asked too often."""
    rate = standing.rate
    message = f"More than {rate.most} {rate.name} a minute; try again in {standing.resets_s} s."
    headers = {**standing.headers(), "Retry-After": str(standing.resets_s)}
    return HttpError(429, Problem("", "rate_limited", message), headers)


def _item(rate: Rate) -> RateLimitItemPerMinute:
    return _per_minute(rate.most)


@lru_cache(1_024)
def _per_minute(most: int) -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(most)
