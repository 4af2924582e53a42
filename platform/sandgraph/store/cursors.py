"""Lists in pages: a cursor names the last item that was seen, so that what is added meanwhile moves nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sandgraph.errors import InvalidInput
from sandgraph.store.records import Page

T = TypeVar("T")

#: More than any number of ours has.
_DIGITS = 19


def decode(kind: str, cursor: str | None) -> str | None:
    """Return the key of the last item that was seen.

    Raises:
        InvalidInput: It is not a cursor of this kind of list.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    prefix, _, key = text.partition(":")
    if prefix != kind or not key:
        raise _no_cursor()
    return key


def encode(kind: str, key: str) -> str:
    """Return the cursor that names an item by its key."""
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


def time_of(text: str) -> datetime:
    """Return a time that is part of a key.

    Raises:
        InvalidInput: It is none, so that the cursor is none either.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _no_cursor() from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def number_of(text: str) -> int:
    """Return a number that is part of a key; raises as `time_of`."""
    if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS):
        raise _no_cursor()
    return int(text)


def page(kind: str, items: Sequence[T], limit: int, key: Callable[[T], str]) -> Page[T]:
    """Return a page of what a query for one item more than ``limit`` gave."""
    shown = tuple(items[:limit])
    if len(items) <= limit or not shown:
        return Page(shown, None)
    return Page(shown, encode(kind, key(shown[-1])))


def _no_cursor() -> InvalidInput:
    message = "This is no cursor of this list in this order; begin without one."
    return InvalidInput.at("cursor", "invalid_cursor", message)
