"""JSON values as Python holds them, and how they are told apart."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from itertools import repeat

#: A JSON value as Python holds it.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
State = Mapping[str, Json]

#: What integers of a state may be.
INTEGERS = range(-(2**63), 2**63)

# The last format without references, in which equal values have equal bytes.
_PLAIN = 2

_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def kind_of(value: Json) -> str:
    """Return what a value is called in JSON, with its article."""
    return _KINDS[type(value)]


def same(one: Json, other: Json) -> bool:
    """Tell whether two values are one as JSON: ``True``, ``1`` and ``1.0`` differ, and so do orders of members."""
    # To compare first is many times as fast where they differ; only the bytes tell True from 1 apart.
    return one is other or (one == other and marshal.dumps(one, _PLAIN) == marshal.dumps(other, _PLAIN))


def prints(values: Iterable[Json]) -> Iterable[bytes]:
    """Return for each value bytes that it shares with those it is the same as, and no other; to be compared only."""
    # Several times as fast as JSON text, and nothing here ever reads it.
    return map(marshal.dumps, values, repeat(_PLAIN))


def has_more_values(state: State, most: int) -> bool:
    """Tell whether a state has more values than that, at any depth: elements of arrays, and members of objects."""
    level: list[State | list[Json]] = [state]
    while level:
        most -= sum(map(len, level))
        if most < 0:
            return True
        # Level by level, and by exact type: nothing else in Python is as fast.
        level = [
            value
            for part in level
            for value in (part if type(part) is list else part.values())  # type: ignore[union-attr]
            if type(value) is dict or type(value) is list
        ]
    return False
