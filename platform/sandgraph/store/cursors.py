"""Lists in pages: a cursor names the last item that was seen, so that what is added meanwhile moves nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from sandgraph.errors import InvalidInput
from sandgraph.store.records import Page

T = TypeVar("T")


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
        raise InvalidInput.at("cursor", "invalid_cursor", "This is no cursor of this list; begin without one.")
    return key


def page(kind: str, items: Sequence[T], limit: int, key: Callable[[T], str]) -> Page[T]:
    """Return a page of what a query for one item more than ``limit`` gave."""
    shown = tuple(items[:limit])
    if len(items) <= limit or not shown:
        return Page(shown, None)
    return Page(shown, base64.urlsafe_b64encode(f"{kind}:{key(shown[-1])}".encode()).decode().rstrip("="))
