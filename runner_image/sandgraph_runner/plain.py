"""State values to JSON: strict where `json` is lenient, and without running a line of the value's own code."""

from __future__ import annotations

import math

from sandgraph_runner.lean import Any

#: What stands for a state's key where it is the result for a map's item that cannot be stored.
RESULT = "result"

#: Integers outside of these bounds cannot be stored.
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

# Taken before submitted code could replace it.
_isfinite = math.isfinite

_CONTAINERS = (dict, list, tuple)
_CONSTANTS = frozenset({bool, type(None)})

_ADVICE = {
    "set": "use a list",
    "frozenset": "use a list",
    "bytes": "decode it, or store it as base64 text",
    "bytearray": "decode it, or store it as base64 text",
    "datetime": "store its isoformat()",
    "date": "store its isoformat()",
    "Decimal": "store it as a float or as text",
    "complex": "store its real and imag",
    "WorkflowState": "use its to_dict()",
    "ItemState": "use its to_dict()",
}


class Unstorable(Exception):
    """A value that the state cannot hold.

    Attributes:
        path: Where it is, from the state's key inwards: keys and indexes.
        type_name: ``TypeError`` or ``ValueError``, after what Python itself would raise.
        item: The index of the map's item whose result it is; None where it is a value of the state.
    """

    def __init__(self, why: str, type_name: str = "TypeError") -> None:
        super().__init__(why)
        self.why = why
        self.type_name = type_name
        self.path: list[str | int] = []
        self.item: int | None = None

    @classmethod
    def at(cls, key: str, why: str, type_name: str = "ValueError") -> Unstorable:
        """Make the error of a state key."""
        error = cls(why, type_name)
        error.path.append(key)
        return error

    @property
    def key(self) -> str:
        """The state's key, or `RESULT`."""
        return str(self.path[0]) if self.path else ""

    def __str__(self) -> str:
        """Tell where and why: ``state key 'x': x["a"][3] is a set, …``."""
        where = self.key + "".join(f"[{_cut(step)!r}]" for step in self.path[1:])
        what = f"state key {_cut(self.key)!r}" if self.item is None else f"the result of item {self.item}"
        return f"{what}: {where[:500]} {self.why}"


def storable(key: str, value: object, max_depth: int) -> Any:
    """Return a copy of a state value that is made of exact JSON types.

    Dicts with string keys, lists, tuples (as lists), strings, finite numbers, booleans and None can be stored, and so
    can subclasses of these, as what they are a subclass of. Being a copy, a thread which goes on changing the value
    cannot slip anything in.

    Args:
        key: The state's key, for the error.
        value: Anything at all.
        max_depth: Deepest nesting; a scalar has 0, ``[]`` has 1.

    Raises:
        Unstorable: It holds something else, or is too deep, or contains itself.
    """
    try:
        return plain(value, max_depth)
    except Unstorable as error:
        error.path.insert(0, key)
        raise
    except RuntimeError:
        raise Unstorable.at(key, "was changed by another thread while it was being saved", "RuntimeError") from None


def storable_result(item: int, value: object, max_depth: int) -> Any:
    """Return a copy of the result for a map's item, as `storable` does.

    Raises:
        Unstorable: Likewise.
    """
    try:
        return storable(RESULT, value, max_depth)
    except Unstorable as error:
        error.item = item
        raise


def plain(value: object, depth: int) -> Any:
    """Return a copy made of exact JSON types; see `storable`."""
    kind = type(value)
    if issubclass(kind, _CONTAINERS):
        if depth <= 0:
            raise Unstorable("is nested deeper than the limit, or contains itself", "ValueError")
        return _object(value, depth - 1) if issubclass(kind, dict) else _array(value, depth - 1)
    if issubclass(kind, float):
        fraction = float.__float__(value)  # type: ignore[arg-type]
        if not _isfinite(fraction):
            raise Unstorable(f"is {fraction}, which JSON does not have; use None", "ValueError")
        return fraction
    if issubclass(kind, str):
        return _string(value)
    if kind in _CONSTANTS:
        return value
    if issubclass(kind, int):
        number = int.__int__(value)  # type: ignore[arg-type]
        if not INT_MIN <= number <= INT_MAX:
            raise Unstorable("is an integer beyond ±2^63; store it as text", "ValueError")
        return number
    raise Unstorable(f"is of the type {_type_name(kind)}, which JSON does not have{_advice(kind)}")


def checked_key(key: object) -> str:
    """Return a state key as an exact string.

    Raises:
        Unstorable: It is no string, or empty, or not valid text.
    """
    if not issubclass(type(key), str):
        raise Unstorable.at(_shown(key), f"is a key of the type {_type_name(type(key))}; keys are strings", "TypeError")
    try:
        text = _string(key)
    except Unstorable as error:
        error.path.append(_shown(key))
        raise
    if not text:
        raise Unstorable.at("", "is empty; a key is not", "ValueError")
    return text


# The commonest values are told apart in the loops: a call for each would take three times as long.


def _object(value: Any, depth: int) -> dict[str, Any]:
    out = {}
    key: object = None
    try:
        for key, item in dict.items(value):
            kind = type(item)
            name = key if type(key) is str and key.isascii() else _key(key)
            if (kind is str and item.isascii()) or (kind is int and INT_MIN <= item <= INT_MAX) or kind in _CONSTANTS:
                out[name] = item
            else:
                out[name] = plain(item, depth)
    except Unstorable as error:
        if isinstance(key, str):
            error.path.insert(0, str.__str__(key))
        raise
    return out


def _array(value: Any, depth: int) -> list[Any]:
    out: list[Any] = []
    add = out.append
    iterate = list.__iter__ if issubclass(type(value), list) else tuple.__iter__
    try:
        for item in iterate(value):
            kind = type(item)
            if (kind is str and item.isascii()) or (kind is int and INT_MIN <= item <= INT_MAX) or kind in _CONSTANTS:
                add(item)
            else:
                add(plain(item, depth))
    except Unstorable as error:
        error.path.insert(0, len(out))
        raise
    return out


def _string(value: Any) -> str:
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            wrong = f"U+{ord(text[error.start]):04X} at {error.start}"
            raise Unstorable(f"is not valid text: it holds a lone surrogate ({wrong})", "ValueError") from None
    return text


def _key(key: object) -> str:
    if not issubclass(type(key), str):
        raise Unstorable(f"has the key {_shown(key)} of the type {_type_name(type(key))}; JSON keys are strings")
    return _string(key)


def _shown(key: object) -> str:
    # Of other types the repr would be submitted code.
    return ascii(key)[:100] if type(key) in {str, int, float, bool, type(None)} else "(an object)"


def _type_name(kind: type) -> str:
    # Read past the class, whose own attributes may be anything.
    return str(type.__dict__["__name__"].__get__(kind))[:100]


def _advice(kind: type) -> str:
    name = _type_name(kind)
    return f"; {_ADVICE[name]}" if name in _ADVICE else ""


def _cut(step: str | int) -> str | int:
    return step if isinstance(step, int) or len(step) <= 100 else step[:100] + "…"  # noqa: PLR2004 - enough to know it
