"""Pages of lists at a bounded cost, whatever they are filtered by.

An index gives keys in the list's order; what else is asked of the items is looked at as they are read, up to a bound.
A page that meets the bound ends there, shorter than it may be, and its cursor goes on behind the last item that was
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, and_

K = TypeVar("K", bound=tuple[object, ...])
T = TypeVar("T")

#: Items that are looked at for one page, and how many of them at a time where some may not be shown.
WINDOW, _AT_ONCE = 2_000, 500

#: Statements of each kind that are kept: to make one of some short list takes several times as long as to run it, and
#: most who ask want a list's first page, as everybody before them.
STATEMENTS = 256


def collect(
    after: K | None,
    limit: int,
    fetch: Callable[[K | None, int], Sequence[K]],
    load: Callable[[Sequence[K]], Mapping[K, T]],
) -> tuple[list[T], K | None]:
    """Return a page's items, and the key behind which the next page begins; None at the end of the list.

    Args:
        after: The key behind which this one begins.
        limit: Most items.
        fetch: Returns the keys that follow one in the list's order, at most so many.
        load: Returns the items of keys that are to be shown; it may be of all of them.
    """
    found: list[T] = []
    seen, last = 0, after
    # Mostly that is enough: for all of them are shown, or most.
    size = limit + 1
    while True:
        keys = fetch(last, size)
        items = load(keys) if keys else {}
        for key in keys:
            if len(found) == limit:
                return found, last
            if key in items:
                found.append(items[key])
            last = key
        seen += len(keys)
        if len(keys) < size:
            return found, None
        if seen >= WINDOW or len(found) == limit:
            return found, last
        size = _AT_ONCE


def begins_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Return the condition that a text begins so, as a range that an index knows."""
    return and_(column >= prefix, column < f"{prefix}\U0010ffff")
