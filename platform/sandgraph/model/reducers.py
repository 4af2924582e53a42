"""Reducers: how what parallel branches do to one key comes together.

A change of a key that has a reducer is kept as an operand, where it can be told from the values before and after: what
a list grew by, what was added to a number. Operands of several branches are then applied one after another. Large
values are only ever walked by what runs at the speed of C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from functools import reduce
from itertools import chain, compress, filterfalse
from operator import add, ne

from sandgraph.model.values import INTEGERS, Json, kind_of, prints, same

# Up to so many new elements are looked for one by one, each in the whole list.
_FEW = 8


class Reducer(StrEnum):
    """What a key's changes are, where they can be told as something other than a new value.

    Attributes:
        APPEND: A list that grew at its end; the operand is the list of what was added.
        EXTEND: The same.
        UNION: A set kept as a list, unique as JSON, in the order of first appearance; the operand is the list of what
            was added.
        ADD: A number; the operand is what was added.
        MIN: The least number; the operand is the new one.
        MAX: The greatest number; the operand is the new one.
        MERGE: An object whose members are added or changed; the operand is an object of those.
    """

    APPEND = "append"
    EXTEND = "extend"
    UNION = "union"
    ADD = "add"
    MIN = "min"
    MAX = "max"
    MERGE = "merge"

    @property
    def kind(self) -> str:
        """What its values and its operands are, in the words of JSON, with the article."""
        if self in _OF_LISTS:
            return "an array"
        return "an object" if self is Reducer.MERGE else "a number"


_OF_LISTS = frozenset({Reducer.APPEND, Reducer.EXTEND, Reducer.UNION})


def check(reducer: Reducer, key: str, value: Json) -> None:
    """Check the kind of a value, or of an operand.

    Raises:
        ValueError: The reducer does not go with that kind, and the message names the key and both; or it is a number
            that no state can hold.
    """
    if kind_of(value) != reducer.kind:
        raise ValueError(f"the key {key!r}: {reducer} needs {reducer.kind} and not {kind_of(value)}")
    if isinstance(value, int | float) and not _is_legal(value):
        raise ValueError(f"the key {key!r}: {reducer} needs a number that a state can hold")


def identity(reducer: Reducer, operand: Json) -> Json:
    """Return the value that a key without one starts from when this operand is the first."""
    if reducer in _OF_LISTS:
        return []
    if reducer is Reducer.MERGE:
        return {}
    return 0 if reducer is Reducer.ADD else operand


def reduced(reducer: Reducer, key: str, before: Json, operands: Sequence[Json]) -> Json:
    """Return the value of a key after these operands, one after another.

    Args:
        reducer: Of all of them.
        key: Named in errors.
        before: The value so far; stays as it is.
        operands: At least one, each checked.

    Raises:
        ValueError: The value is of another kind, or what comes out is no legal number of a state.
    """
    check(reducer, key, before)
    if reducer is Reducer.ADD:
        return _sum(key, [before, *operands])  # type: ignore[list-item]
    if reducer is Reducer.MIN:
        return min(before, *operands)  # type: ignore[type-var]
    if reducer is Reducer.MAX:
        return max(before, *operands)  # type: ignore[type-var]
    if isinstance(before, dict):
        merged = dict(before)
        for operand in operands:
            merged.update(operand)  # type: ignore[arg-type]
        return merged
    added: list[Json] = list(chain.from_iterable(operands))  # type: ignore[arg-type]
    known: list[Json] = before  # type: ignore[assignment]
    return [*known, *(_missing(known, added) if reducer is Reducer.UNION else added)]


def operand_of(reducer: Reducer, before: Json, after: Json) -> Json:
    """Return the operand that leads from one value to another; None where there is none.

    With it `reduced` gives exactly ``after``, except that a union's order is its own, that of an object's members too,
    and that floats are added as floats are.
    """
    if kind_of(before) != reducer.kind or kind_of(after) != reducer.kind:
        return None
    if isinstance(before, list) and isinstance(after, list):
        grew = len(after) >= len(before) and same(after[: len(before)], before)
        if grew:
            added = after[len(before) :]
            return _missing(before, added) if reducer is Reducer.UNION else added
        return _added(before, after) if reducer is Reducer.UNION else None
    if isinstance(before, dict) and isinstance(after, dict):
        return _changed(before, after) if before.keys() <= after.keys() else None
    if reducer is Reducer.ADD:
        return _difference(before, after)  # type: ignore[arg-type]
    return after if same(reduced(reducer, "", before, [after]), after) else None


def changes_nothing(before: Json, after: Json, operand: Json) -> bool:
    """Tell whether the operand that leads from one value to another may be left out."""
    return not operand if isinstance(operand, list | dict) else same(before, after)


def _difference(before: float, after: float) -> float | None:
    difference = after - before
    # Next to the greatest float, to add what was subtracted may lead beyond it.
    return difference if _is_legal(difference) and _is_legal(before + difference) else None


def _sum(key: str, numbers: Sequence[float]) -> float:
    # One by one: what the language's own sum makes of floats depends on its version.
    total = reduce(add, numbers)
    if not _is_legal(total):
        raise ValueError(f"the key {key!r}: add leads out of the numbers that a state can hold")
    return total


def _is_legal(number: float) -> bool:
    return number in INTEGERS if isinstance(number, int) else math.isfinite(number)


def _missing(known: list[Json], values: list[Json]) -> list[Json]:
    """Return those of some values that a list does not have, each once."""
    if len(values) <= _FEW and not any(value in known for value in values):
        known = []
    found = dict(zip(prints(values), values, strict=True))
    return [found[each] for each in filterfalse(set(prints(known)).__contains__, found)]


def _added(before: list[Json], after: list[Json]) -> list[Json] | None:
    """Return what was added to a set, or None where something went missing."""
    there = set(prints(before))
    found = dict(zip(prints(after), after, strict=True))
    return [found[each] for each in filterfalse(there.__contains__, found)] if there <= found.keys() else None


def _changed(before: dict[str, Json], after: dict[str, Json]) -> dict[str, Json]:
    """Return the members that were added or changed."""
    old, new = prints(before.values()), prints(map(after.__getitem__, before))
    changed = set(compress(before, map(ne, old, new))) | (after.keys() - before.keys())
    return {key: after[key] for key in filter(changed.__contains__, after)}
