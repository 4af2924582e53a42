"""Ids that sort by the time they were made: ULIDs behind a prefix that says what they name."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
_LENGTH = 26
_STEP_BITS = 64


class IdMaker:
    """Makes ids, each greater than the one before, whatever the clock does; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def make(self, prefix: str) -> str:
        """Return a new id, such as ``run_01JD…``."""
        value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        with self._lock:
            if value >> _RANDOM_BITS <= self._last >> _RANDOM_BITS:
                # The same millisecond, or a clock set back: a random step keeps the order and tells no neighbour.
                value = self._last + 1 + secrets.randbits(_STEP_BITS)
            self._last = value
        return f"{prefix}_{_encode(value)}"


def first_id(prefix: str, moment: datetime) -> str:
    """Return what no id that is made at that time or later is less than."""
    return f"{prefix}_{_encode(max(0, int(moment.timestamp() * 1000)) << _RANDOM_BITS)}"


def _encode(value: int) -> str:
    """Return 130 bits in Crockford's base32."""
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


#: The process's one maker, so that its ids are in order over all kinds.
new_id = IdMaker().make
