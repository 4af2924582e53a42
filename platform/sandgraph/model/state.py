"""State diffs, and what becomes of a state when branches meet.

A diff is a list of operations on top-level keys. States and diffs are immutable by convention: applying a diff makes a
new top-level mapping that shares the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Commit number to its parents', as far back as live branches differ.
Parents = Mapping[int, tuple[int, ...]]

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
        self.apply_to(after)
        return after

    def apply_to(self, state: dict[str, Json]) -> None:
        """Change a state in place."""
        for op in self.ops:
            if isinstance(op, SetKey):
                state[op.key] = op.value
            else:
                state.pop(op.key, None)

    def without_idle_deletes(self, state: State) -> StateDiff:
        """Return the diff without deletions of keys that the state does not have: they change nothing."""
        kept = tuple(op for op in self.ops if isinstance(op, SetKey) or op.key in state)
        return self if len(kept) == len(self.ops) else StateDiff(kept)

    def reduced(self, before: State, reducers: Mapping[str, object]) -> StateDiff:
        """To be built."""
        return self

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


@dataclass(frozen=True, slots=True)
class View:
    """What a branch sees: its own causal past and nothing else.

    Attributes:
        heads: Numbers of the last commits of that past, ascending; commit 0 is the initial state.
        state: The state they make. Not to be changed.
        writers: Key to the number of the commit that set or deleted it last.
    """

    heads: tuple[int, ...]
    state: State
    writers: Mapping[str, int]

    @classmethod
    def initial(cls, state: State) -> View:
        """Return the view of commit 0."""
        return cls((0,), state, dict.fromkeys(state, 0))

    def inside(self, inputs: Sequence[tuple[str, str]] | None) -> View:
        """To be built."""
        state = self.state if inputs is None else {i: self.state[o] for i, o in inputs if o in self.state}
        return View(self.heads, state, dict.fromkeys(state, self.heads[0]))

    def after(self, number: int, diff: StateDiff) -> View:
        """Return the view after this branch made a commit."""
        if not diff:
            return View((number,), self.state, self.writers)
        return View((number,), diff.apply(self.state), {**self.writers, **{op.key: number for op in diff.ops}})

    def without_old_deletions(self, parents: Parents) -> View:
        """Forget who deleted keys before the live branches parted: no merge can ask."""
        kept = {key: number for key, number in self.writers.items() if key in self.state or number in parents}
        return View(self.heads, self.state, kept)


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """Two commits set or deleted one key, neither an ancestor of the other."""

    key: str
    first: int
    second: int


def past(parents: Parents, heads: Iterable[int]) -> set[int]:
    """Return the commits that the heads descend from, themselves included, as far as ``parents`` reaches."""
    seen: set[int] = set()
    todo = [head for head in heads if head in parents]
    while todo:
        number = todo.pop()
        if number not in seen:
            seen.add(number)
            todo += (parent for parent in parents[number] if parent in parents)
    return seen


def merge(parents: Parents, views: Sequence[View]) -> tuple[View, list[MergeConflict]]:
    """Merge what branches saw, in the order given; which of them came first in time plays no part.

    Args:
        parents: At least the heads, and every commit that is not in the past of all the views.
        views: At least one.

    Returns:
        The merged view, and the conflicts: where there are any, the view keeps the earlier branch's value.
    """
    first, *others = views
    others = [view for view in others if view.heads != first.heads]
    if not others:
        return first, []
    conflicts: list[MergeConflict] = []
    heads, state, writers = set(first.heads), dict(first.state), dict(first.writers)
    ours = past(parents, heads)
    for other in others:
        theirs = past(parents, other.heads)
        for key, writer in other.writers.items():
            if writer not in theirs or writer in ours:
                continue
            mine = writers.get(key)
            if mine is not None and mine in ours and mine not in theirs:
                conflicts.append(MergeConflict(key, mine, writer))
                continue
            writers[key] = writer
            if key in other.state:
                state[key] = other.state[key]
            else:
                state.pop(key, None)
        heads -= theirs.difference(other.heads)
        heads.update(head for head in other.heads if head not in ours)
        ours |= theirs
    return View(tuple(sorted(heads)), state, writers), conflicts


def compact(parents: Parents, views: Iterable[View]) -> Parents:
    """Drop the commits that no merge of these views, or of views made from them, can ask about.

    Who descends from whom stays true among those that are left: the views' heads, and the writers of their keys that
    some view does not have in its past.
    """
    views = list(views)
    pasts = [past(parents, heads) for heads in {view.heads for view in views}]
    common = set[int].intersection(*pasts)
    wanted = {head for view in views for head in view.heads}
    wanted.update(writer for view in views for writer in view.writers.values() if writer not in common)
    kept: dict[int, tuple[int, ...]] = {}
    nearest: dict[int, tuple[int, ...]] = {}
    # A commit's number is higher than its parents'.
    for number in sorted(parents):
        above = {each for parent in parents[number] for each in nearest.get(parent, ())}
        if number in wanted:
            kept[number] = tuple(sorted(above))
            nearest[number] = (number,)
        elif number not in common:
            nearest[number] = tuple(sorted(above))
    return kept
