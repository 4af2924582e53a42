"""State diffs, and what becomes of a state when branches meet.

A diff is a list of operations on top-level keys. States and diffs are immutable by convention: applying a diff makes a
new top-level mapping that shares the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: A JSON value as Python holds it.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
State = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class SetKey:
    """Sets a top-level key."""

    key: str
    value: Json


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Removes a top-level key."""

    key: str


Op = SetKey | DeleteKey


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What one attempt changed: at most one operation a key, in the order of the keys' names."""

    ops: tuple[Op, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything changed."""
        return bool(self.ops)

    def apply(self, state: State) -> dict[str, Json]:
        """Return the state after this diff."""
        after = dict(state)
        for op in self.ops:
            match op:
                case SetKey(key, value):
                    after[key] = value
                case DeleteKey(key):
                    after.pop(key, None)
        return after

    def to_json(self) -> list[dict[str, Json]]:
        """Return ``[{"op": "set", "key": …, "value": …}, {"op": "delete", "key": …}]``."""
        return [
            {"op": "set", "key": op.key, "value": op.value}
            if isinstance(op, SetKey)
            else {"op": "delete", "key": op.key}
            for op in self.ops
        ]

    @classmethod
    def from_json(cls, ops: object) -> StateDiff:
        """Read what `to_json` wrote, from a source that need not be trusted.

        Raises:
            ValueError: It is not that; the message names the first thing that is wrong.
        """
        if not isinstance(ops, list):
            raise ValueError("a diff is a list of operations")  # noqa: TRY004 - a value of the wrong form
        read: dict[str, Op] = {}
        for op in ops:
            match op:
                case {"op": "set", "key": str(key), "value": value, **rest} if not rest:
                    entry: Op = SetKey(key, value)
                case {"op": "delete", "key": str(key), **rest} if not rest:
                    entry = DeleteKey(key)
                case _:
                    raise ValueError("an operation is neither a set nor a delete of a key")
            if entry.key in read:
                raise ValueError(f"the key {entry.key!r} has two operations")
            read[entry.key] = entry
        return cls(tuple(read[key] for key in sorted(read)))
