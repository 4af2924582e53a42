"""States of the past, made again from a run's commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandgraph.model.state import DeleteKey, Json, MergeConflict, ReduceKey, State, StateDiff, past


class CommitLike(Protocol):
    """A commit as the store or the scheduler has it."""

    @property
    def number(self) -> int:
        """From 1."""

    @property
    def parents(self) -> tuple[int, ...]:
        """Numbers of the commits it was made over."""

    @property
    def diff(self) -> StateDiff:
        """What it changed."""


class TrunkCommit(CommitLike, Protocol):
    """A commit that knows over which state it was made: its trunk's, and on top of that what was merged."""

    @property
    def trunk(self) -> int:
        """Number of the commit over whose state ``merged`` is laid."""

    @property
    def merged(self) -> StateDiff:
        """Sets and deletes that lead from the trunk's state to what it was made over."""

    @property
    def merged_writers(self) -> Mapping[str, int]:
        """Who wrote last what ``merged`` sets, by key."""


def state_at(base: State, commits: Iterable[TrunkCommit]) -> dict[str, Json]:
    """Return the state after the last of some commits, each of which is the trunk of the next.

    Args:
        base: The state of the first one's trunk: the initial one, or a snapshot.
        commits: Oldest first; without any, the state is the base.

    Raises:
        ValueError: Some commit is not the trunk of the next, or a reducer cannot be applied.
    """
    state = dict(base)
    for commit in _along_trunk(commits):
        commit.merged.apply_to(state)
        commit.diff.apply_to(state)
    return state


def writers_at(base: Mapping[str, int], commits: Iterable[TrunkCommit]) -> dict[str, int]:
    """Return who wrote each key last of the state after the last of some commits, as `state_at` takes them.

    Args:
        base: Who wrote each key of the state of the first one's trunk; 0 is the initial state.
        commits: Oldest first.

    Raises:
        ValueError: Some commit is not the trunk of the next.
    """
    writers = dict(base)
    for commit in _along_trunk(commits):
        for diff, who in ((commit.merged, commit.merged_writers), (commit.diff, None)):
            for op in diff.ops:
                if isinstance(op, DeleteKey):
                    writers.pop(op.key, None)
                else:
                    writers[op.key] = commit.number if who is None else who[op.key]
    return writers


def state_so_far(initial: State, commits: Iterable[CommitLike]) -> tuple[dict[str, Json], list[MergeConflict]]:
    """Return the state of all branches of a run in flight together, and the keys about which they disagree.

    Operations are applied in the order of their commits, and reducers' leniently. What one branch set or deleted and
    another changed has what came later; a conflict names the latest commit of those that set or deleted the key, and
    the latest that did not see it or that it did not see, in the order of their numbers.
    """
    ordered = sorted(commits, key=lambda commit: commit.number)
    # Reducers' operations go together, whoever saw whom; so what counts is the last commit that was something else.
    latest = {op.key: commit.number for commit in ordered for op in commit.diff.ops if not isinstance(op, ReduceKey)}
    conflicts = _unseen_by(ordered, latest) | _not_seeing(ordered, latest)
    return _replay(initial, ordered, lenient=True), [conflicts[key] for key in sorted(conflicts)]


@dataclass(frozen=True, slots=True)
class Apart:
    """Where the branches of a run parted that have not met again.

    Attributes:
        since: The newest commit that all before it lead to, and that all later ones descend from; 0 for the start.
        commits: Those later ones, by number.
        tip: The newest of all.
        beside: Those that the tip does not descend from.
    """

    since: int
    commits: Sequence[tuple[int, tuple[int, ...]]]
    tip: int
    beside: frozenset[int]


def apart(commits: Sequence[tuple[int, tuple[int, ...]]]) -> Apart:
    """Return where the branches of a graph parted that have not met again.

    Args:
        commits: All of that graph, with their parents, by number.
    """
    heads, necks = {0}, [0]
    for number, parents in commits:
        heads.difference_update(parents)
        heads.add(number)
        while necks[-1] > min(parents):
            necks.pop()
        if len(heads) == 1:
            necks.append(number)
    later = [each for each in commits if each[0] > necks[-1]]
    tip = later[-1][0] if later else necks[-1]
    seen = past(dict(later), [tip])
    return Apart(necks[-1], later, tip, frozenset(number for number, _ in later if number not in seen))


def _unseen_by(ordered: Sequence[CommitLike], latest: Mapping[str, int]) -> dict[str, MergeConflict]:
    """Find the latest commit before each key's ``latest`` that changed it too, and that it did not see."""
    bits = {number: 1 << i for i, number in enumerate(set(latest.values()))}
    conflicts: dict[str, MergeConflict] = {}
    # Commit number to a bit for each of the ``latest`` that descends from it, handed on from children to parents.
    descendants: dict[int, int] = {}
    for commit in reversed(ordered):
        known = descendants.pop(commit.number, 0) | bits.get(commit.number, 0)
        for op in commit.diff.ops:
            last = latest.get(op.key, 0)
            if commit.number < last and not known & bits[last]:
                conflicts.setdefault(op.key, MergeConflict(op.key, commit.number, last))
        for parent in commit.parents:
            descendants[parent] = descendants.get(parent, 0) | known
    return conflicts


def _not_seeing(ordered: Sequence[CommitLike], latest: Mapping[str, int]) -> dict[str, MergeConflict]:
    """Find the latest commit after each key's ``latest`` that changed it too, and that did not see that one."""
    later = {
        op.key for commit in ordered for op in commit.diff.ops if commit.number > latest.get(op.key, commit.number)
    }
    if not later:
        return {}
    bits = {number: 1 << i for i, number in enumerate({latest[key] for key in later})}
    conflicts: dict[str, MergeConflict] = {}
    # Commit number to a bit for each of those that it descends from.
    ancestors: dict[int, int] = {}
    for commit in ordered:
        known = bits.get(commit.number, 0)
        for parent in commit.parents:
            known |= ancestors.get(parent, 0)
        ancestors[commit.number] = known
        for op in commit.diff.ops:
            if op.key in later and commit.number > latest[op.key] and not known & bits[latest[op.key]]:
                conflicts[op.key] = MergeConflict(op.key, latest[op.key], commit.number)
    return conflicts


def _along_trunk(commits: Iterable[TrunkCommit]) -> Iterable[TrunkCommit]:
    before: int | None = None
    for commit in commits:
        if before is not None and commit.trunk != before:
            raise ValueError(f"commit {commit.number} was made over {commit.trunk}, and not over {before}")
        before = commit.number
        yield commit


def _replay(initial: State, commits: Iterable[CommitLike], *, lenient: bool = False) -> dict[str, Json]:
    state = dict(initial)
    for commit in commits:
        commit.diff.apply_to(state, lenient=lenient)
    return state
