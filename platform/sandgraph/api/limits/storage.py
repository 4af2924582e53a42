"""Where requests are counted: in memory, of a bounded number of identities."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from limits.storage import SlidingWindowCounterSupport, Storage


@dataclass(slots=True)
class _Window:
    count: int
    ends_at: float


class BoundedStorage(Storage, SlidingWindowCounterSupport):
    """Counters for the strategies of the library `limits`: whoever was not seen for longest is forgotten first.

    The library's own storage in memory has no bound, and a thread that goes through all of it a hundred times a second.
    For one thread.

    Args:
        most: How many counters are kept; a limit that is counted has two.
        clock: Seconds that only go forward.
    """

    STORAGE_SCHEME = ["sandgraph-bounded"]  # noqa: RUF012 - as the library declares it

    def __init__(self, most: int = 20_000, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._most = most
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        """Return how many counters there are."""
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it raises: nothing."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, and return the count; a new counter ends after ``expiry`` seconds."""
        if not self.get(key):
            self._windows[key] = _Window(0, self._clock() + expiry)
        window = self._windows[key]
        window.count += amount
        self._windows.move_to_end(key)
        while len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return window.count

    def get(self, key: str) -> int:
        """Return a count."""
        window = self._windows.get(key)
        if window is None:
            return 0
        if window.ends_at <= self._clock():
            del self._windows[key]
            return 0
        return window.count

    def get_expiry(self, key: str) -> float:
        """Return when a counter ends."""
        return self._windows[key].ends_at if self.get(key) else self._clock()

    def check(self) -> bool:
        """It works."""
        return True

    def reset(self) -> int | None:
        """Forget all."""
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._windows.pop(key, None)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count, unless that would be more than the limit."""
        previous, left_s, current, _ = self.get_sliding_window(key, expiry)
        if math.floor(previous * left_s / expiry + current) + amount > limit:
            return False
        # It is the window before during the next one.
        self.incr(self._names(key, expiry)[1], 2 * expiry, amount)
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the counts of the window before and of this one, each with the seconds for which it counts still."""
        before, present = self._names(key, expiry)
        left_s = expiry - self._clock() % expiry
        previous = self.get(before)
        return previous, left_s if previous else 0.0, self.get(present), left_s + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget what was counted under a key."""
        for name in self._names(key, expiry):
            self.clear(name)

    def _names(self, key: str, expiry: int) -> tuple[str, str]:
        number = int(self._clock() // expiry)
        return f"{key}/{number - 1}", f"{key}/{number}"
