"""Values as Python expressions."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("{", "}")}

#: Gives an expression for what is no literal, or None.
Other = Callable[[object], str | None]

_MAX_DEPTH = 50

_SCALARS = frozenset({type(None), type(Ellipsis), bool, int, float, complex, str, bytes})

_DECIMAL_BITS = 2_000


def literal(value: object, other: Other = lambda _: None, depth: int = _MAX_DEPTH) -> str | None:
    """Return an expression for a value made of the language's own types, or None for one that contains any other.

    It needs no names but those of builtins, and makes an equal value of the same types.

    Args:
        value: Anything.
        other: Returns expressions for values of other types.
        depth: Nesting beyond which a value is taken to contain itself.
    """
    kind = type(value)
    if kind in _SCALARS:
        return _scalar(value)
    if kind is not dict and kind not in _BRACKETS:
        return other(value)
    if depth <= 0:
        return None
    return _dict(value, other, depth) if kind is dict else _sequence(value, other, depth)


def expression(value: object) -> str | None:
    """Return an expression for a value that has one of its own beyond literals, or None."""
    if isinstance(value, re.Pattern):
        return f'__import__("re").compile({value.pattern!r}, {int(value.flags)})'
    if type(value) is logging.Logger:
        return f'__import__("logging").getLogger({value.name!r})'
    # What such an object is good for is that it is no other.
    return "object()" if type(value) is object else None


def reduced(value: object) -> tuple[type, tuple[object, ...]] | None:
    """Return a class and the arguments of a call that makes an equal object, where pickle would call the same."""
    try:
        made: object = value.__reduce_ex__(2)
    except TypeError:
        return None
    match made:
        case (kind, arguments, *rest) if kind is type(value) and isinstance(arguments, tuple) and not any(rest):
            return type(value), arguments
    return None


def _scalar(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    # Python refuses to write very long integers in decimal.
    return hex(value) if isinstance(value, int) and value.bit_length() > _DECIMAL_BITS else repr(value)


def _dict(value: Any, other: Other, depth: int) -> str | None:  # noqa: ANN401 - a dict of anything
    keys, values = _all(value, other, depth), _all(value.values(), other, depth)
    if keys is None or values is None:
        return None
    return "{" + ", ".join(f"{key}: {item}" for key, item in zip(keys, values, strict=True)) + "}"


def _sequence(value: Any, other: Other, depth: int) -> str | None:  # noqa: ANN401 - a list, tuple, set or frozenset of anything
    items = _all(value, other, depth)
    if items is None:
        return None
    if isinstance(value, set | frozenset) and not items:
        return f"{type(value).__name__}()"
    opening, closing = _BRACKETS[type(value)]
    comma = "," if isinstance(value, tuple) and len(items) == 1 else ""
    text = f"{opening}{', '.join(items)}{comma}{closing}"
    return f"frozenset({text})" if isinstance(value, frozenset) else text


def _all(values: Iterable[object], other: Other, depth: int) -> list[str] | None:
    found = [literal(value, other, depth - 1) for value in values]
    texts = [text for text in found if text is not None]
    return texts if len(texts) == len(found) else None
