"""What becomes of a state when branches meet.

Each branch brings its view, and the first of them in the graph's order is the one that the others are merged into: the
keys they set or deleted, and the operations of reducers that were not in its past, in their own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sandgraph.model.diff import DeleteKey, Op, ReduceKey, SetKey, StateDiff
from sandgraph.model.reducers import identity, reduced
from sandgraph.model.values import Json, State, has_more_values
from sandgraph.model.view import Parents, Reduction, View

__all__ = [
    "DeleteKey",
    "Json",
    "MergeConflict",
    "Op",
    "Parents",
    "ReduceKey",
    "Reduction",
    "SetKey",
    "State",
    "StateDiff",
    "View",
    "compact",
    "has_more_values",
    "merge",
    "past",
]


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """Two commits changed one key, neither an ancestor of the other, and not both by the key's reducer.

    Attributes:
        key: The key.
        first: A commit of the branch that comes first in the graph's order.
        second: A commit of the other.
        reason: Why the reducer cannot be applied, where both used it: what comes out is no legal number.
    """

    key: str
    first: int
    second: int
    reason: str = ""


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
        The merged view, and the conflicts by key: where there are any, the view keeps the earlier branch's value.
    """
    first, *others = views
    others = [view for view in others if view.heads != first.heads]
    if not others:
        return first, []
    joint = _Joint(parents, first)
    for other in others:
        joint.take(other)
    # In no order that depends on when something was forgotten.
    return joint.view(), sorted(joint.conflicts, key=lambda conflict: conflict.key)


class _Joint:
    """A view being merged with others.

    Args:
        parents: As for `merge`.
        first: The view it begins as.
    """

    def __init__(self, parents: Parents, first: View) -> None:
        self.conflicts: list[MergeConflict] = []
        self._parents = parents
        self._heads = set(first.heads)
        self._state = dict(first.state)
        self._writers = dict(first.writers)
        self._chains = dict(first.chains)
        self._trunk, self._depth = first.trunk, first.depth
        self._merged = set(first.merged)
        self._ours = past(parents, first.heads)
        # What the view that is being merged has in its past.
        self._theirs: set[int] = set()

    def view(self) -> View:
        """Return what it has become."""
        heads, merged = tuple(sorted(self._heads)), frozenset(self._merged)
        return View(heads, self._state, self._writers, self._chains, self._trunk, merged, self._depth)

    def take(self, other: View) -> None:
        """Merge one more view."""
        ours, theirs = self._ours, past(self._parents, other.heads)
        self._theirs = theirs
        is_behind = ours <= theirs
        for key, writer in other.writers.items():
            if key in other.chains:
                self._take_reductions(key, other)
            elif writer in theirs and writer not in ours:
                self._take_set(key, writer, other)
        self._heads -= theirs.difference(other.heads)
        self._heads.update(head for head in other.heads if head not in ours)
        self._ours = ours | theirs
        if is_behind and self._has_chains_of(other):
            # All that was here is in their past: their trunk leads to the same state, and from nearer by.
            self._trunk, self._depth, self._merged = other.trunk, other.depth, set(other.merged)

    def _take_set(self, key: str, writer: int, other: View) -> None:
        """Take a key as they left it, who set or deleted it in ``writer``."""
        mine = self._unseen(key)
        if mine is not None:
            self.conflicts.append(MergeConflict(key, mine, writer))
            return
        self._take_value(key, other)

    def _take_value(self, key: str, other: View) -> None:
        self._merged.add(key)
        self._writers[key] = other.writers[key]
        self._chains.pop(key, None)
        if key in other.chains:
            self._chains[key] = other.chains[key]
        if key in other.state:
            self._state[key] = other.state[key]
        else:
            self._state.pop(key, None)

    def _take_reductions(self, key: str, other: View) -> None:
        chain = other.chains[key]
        if self._is_new(chain.base):
            self._take_set(key, chain.base, other)
            return
        mine, theirs = _apart(self._chains.get(key), chain)
        new = [each for each in theirs if self._is_new(each.number)]
        if not new:
            return
        unseen = [each for each in mine if self._is_unseen(each.number)]
        reducers = {each.op.reducer for each in new}
        clashing = [each.number for each in unseen if {each.op.reducer} != reducers]
        base = self._base(key)
        if base is not None and self._is_unseen(base):
            clashing.append(base)
        if clashing:
            self.conflicts.append(MergeConflict(key, clashing[0], new[-1].number))
        elif not mine:
            # Theirs goes on from ours, and so does their value.
            self._take_value(key, other)
        else:
            self._reduce(key, new, unseen)

    def _reduce(self, key: str, new: list[Reduction], unseen: list[Reduction]) -> None:
        """Apply what they did to a key after what was done here."""
        value = self._state.get(key, identity(new[0].op.reducer, new[0].op.value))
        try:
            for reducer, group in groupby(new, key=lambda each: each.op.reducer):
                value = reduced(reducer, key, value, [each.op.value for each in group])
        except ValueError as error:
            first = (unseen or new)[-1].number
            self.conflicts.append(MergeConflict(key, first, new[-1].number, str(error)))
            return
        chain = self._chains.get(key)
        for each in new:
            chain = Reduction.after(chain, each.number, each.op, self._writers.get(key, 0))
            self._chains[key] = chain
        self._state[key] = value
        self._writers[key] = new[-1].number
        self._merged.add(key)

    def _is_new(self, number: int) -> bool:
        return number in self._theirs and number not in self._ours

    def _is_unseen(self, number: int) -> bool:
        return number in self._ours and number not in self._theirs

    def _base(self, key: str) -> int | None:
        """Return who set or deleted a key last, as far as that can matter."""
        return self._chains[key].base if key in self._chains else self._writers.get(key)

    def _unseen(self, key: str) -> int | None:
        """Return the last commit here that changed a key and that they do not have in their past."""
        each = self._chains.get(key)
        while each is not None:
            if self._is_unseen(each.number):
                return each.number
            each = each.before
        base = self._base(key)
        return base if base is not None and self._is_unseen(base) else None

    def _has_chains_of(self, other: View) -> bool:
        # Of one past there are several orders, if branches met in different ones.
        chains = other.chains
        return self._chains.keys() == chains.keys() and all(self._chains[key] is chains[key] for key in chains)


def _apart(one: Reduction | None, other: Reduction | None) -> tuple[list[Reduction], list[Reduction]]:
    """Return the parts of two chains that they do not share, each in its order."""
    ones, others = list[Reduction](), list[Reduction]()
    while one is not other:
        if other is None or (one is not None and one.length >= other.length):
            assert one is not None  # noqa: S101 - they are not both None
            ones.append(one)
            one = one.before
        else:
            others.append(other)
            other = other.before
    return ones[::-1], others[::-1]


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
    wanted |= _chained(views) - common
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


def _chained(views: Iterable[View]) -> set[int]:
    """Return the commits that chains of reductions refer to."""
    found: set[int] = set()
    walked: set[int] = set()
    for view in views:
        for chain in view.chains.values():
            found.add(chain.base)
            each: Reduction | None = chain
            # What views share is walked once.
            while each is not None and id(each) not in walked:
                walked.add(id(each))
                found.add(each.number)
                each = each.before
    return found
