"""State diffs: lists of operations on top-level keys.

States and diffs are immutable by convention: applying a diff makes a new top-level mapping that shares the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandgraph.model.reducers import Reducer, changes_nothing, check, identity, operand_of, reduced
from sandgraph.model.values import Json, State

_REDUCERS = frozenset(Reducer)


@dataclass(frozen=True, slots=True)
class SetKey:
    """Sets a top-level key."""

    key: str
    value: Json


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Removes a top-level key."""

    key: str


@dataclass(frozen=True, slots=True)
class ReduceKey:
    """Changes a top-level key in a way that goes together with what parallel branches do to it.

    Attributes:
        key: The key.
        reducer: The one that the graph declares for it.
        value: The operand: what was added, or the new number; see `Reducer`.
    """

    key: str
    reducer: Reducer
    value: Json

    def apply_to(self, state: dict[str, Json], *, lenient: bool = False) -> None:
        """Change a state in place; what `StateDiff.apply_to` says holds."""
        start = identity(self.reducer, self.value)
        try:
            state[self.key] = reduced(self.reducer, self.key, state.get(self.key, start), [self.value])
        except ValueError:
            if not lenient:
                raise
            state[self.key] = reduced(self.reducer, self.key, start, [self.value])


Op = SetKey | DeleteKey | ReduceKey


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What one attempt changed: at most one operation a key, in the order of the keys' names."""

    ops: tuple[Op, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything changed."""
        return bool(self.ops)

    def apply(self, state: State) -> dict[str, Json]:
        """Return the state after this diff.

        Raises:
            ValueError: As with `apply_to`.
        """
        after = dict(state)
        self.apply_to(after)
        return after

    def apply_to(self, state: dict[str, Json], *, lenient: bool = False) -> None:
        """Change a state in place.

        Args:
            state: The state; a key that it lacks starts from its reducer's identity.
            lenient: Let what a reducer cannot be applied to start anew, too.

        Raises:
            ValueError: A key's value is of another kind than its reducer's, or would be no legal number; the message
                names it. Operations before that have been applied.
        """
        for op in self.ops:
            if isinstance(op, SetKey):
                state[op.key] = op.value
            elif isinstance(op, DeleteKey):
                state.pop(op.key, None)
            else:
                op.apply_to(state, lenient=lenient)

    def without_idle_deletes(self, state: State) -> StateDiff:
        """Return the diff without deletions of keys that the state does not have: they change nothing."""
        kept = tuple(op for op in self.ops if not isinstance(op, DeleteKey) or op.key in state)
        return self if len(kept) == len(self.ops) else StateDiff(kept)

    def reduced(self, before: State, reducers: Mapping[str, Reducer]) -> StateDiff:
        """Return the diff with each set of a key that has a reducer as what that makes of it, where there is such.

        A set stays one where no operand leads to just that value (see `reducers.operand_of`), and is left out where
        the operand would change nothing. Applied to ``before``, the diff gives the same as it did.

        Args:
            before: The state that the diff is of.
            reducers: Those that are declared, by key.

        Raises:
            ValueError: An operation has another reducer than is declared for its key.
        """
        for op in self.ops:
            if isinstance(op, ReduceKey) and reducers.get(op.key) is not op.reducer:
                declared = reducers.get(op.key, "none")
                raise ValueError(f"the key {op.key!r}: its reducer is {declared}, and not {op.reducer}")
        if not any(op.key in reducers for op in self.ops):
            return self
        ops = (_reduced(op, before, reducers) if isinstance(op, SetKey) else op for op in self.ops)
        return StateDiff(tuple(op for op in ops if op is not None))

    def to_json(self) -> list[dict[str, Json]]:
        """Return ``[{"op": "set", "key": …, "value": …}, {"op": "delete", "key": …}]``.

        A reducer's operation is named after it: ``{"op": "append", "key": …, "value": …}``.
        """
        written: list[dict[str, Json]] = []
        for op in self.ops:
            if isinstance(op, DeleteKey):
                written.append({"op": "delete", "key": op.key})
            else:
                name = op.reducer.value if isinstance(op, ReduceKey) else "set"
                written.append({"op": name, "key": op.key, "value": op.value})
        return written

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
                case {"op": str(name), "key": str(key), "value": value, **rest} if name in _REDUCERS and not rest:
                    check(Reducer(name), key, value)
                    entry = ReduceKey(key, Reducer(name), value)
                case _:
                    raise ValueError("an operation is neither a set nor a delete of a key, nor one of its reducer")
            if entry.key in read:
                raise ValueError(f"the key {entry.key!r} has two operations")
            read[entry.key] = entry
        return cls(tuple(read[key] for key in sorted(read)))


def _reduced(op: SetKey, before: State, reducers: Mapping[str, Reducer]) -> Op | None:
    if op.key not in reducers:
        return op
    reducer = reducers[op.key]
    value = before.get(op.key, identity(reducer, op.value))
    operand = operand_of(reducer, value, op.value)
    if operand is None:
        return op
    if op.key in before and changes_nothing(value, op.value, operand):
        return None
    return ReduceKey(op.key, reducer, operand)
