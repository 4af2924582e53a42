"""States of the past, made again from a run's commits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sandgraph.model.state import Json, MergeConflict, Parents, State, StateDiff, past


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


def state_at(initial: State, commits: Iterable[CommitLike], number: int) -> dict[str, Json] | None:
    """Return the state of checkpoint ``number``: that commit and its ancestors; None if there is none.

    Args:
        initial: The state of commit 0.
        commits: All commits up to that one, by number.
        number: From 0.
    """
    known = sorted((commit for commit in commits if commit.number <= number), key=lambda commit: commit.number)
    parents: Parents = {0: (), **{commit.number: commit.parents for commit in known}}
    if number not in parents:
        return None
    seen = past(parents, [number])
    # Branches that met had no key in conflict, so among ancestors whoever set a key last saw all that set it before.
    return _replay(initial, (commit for commit in known if commit.number in seen))


def state_so_far(initial: State, commits: Iterable[CommitLike]) -> tuple[dict[str, Json], list[MergeConflict]]:
    """Return the state of all branches of a run in flight together, and the keys about which they disagree.

    Those have the value of the latest commit; a conflict names it second, after the latest that it did not see.
    """
    ordered = sorted(commits, key=lambda commit: commit.number)
    latest = {op.key: commit.number for commit in ordered for op in commit.diff.ops}
    bits = {number: 1 << i for i, number in enumerate(set(latest.values()))}
    conflicts: dict[str, MergeConflict] = {}
    # Commit number to a bit for each of the ``latest`` that descends from it, handed on from children to parents.
    descendants: dict[int, int] = {}
    for commit in reversed(ordered):
        known = descendants.pop(commit.number, 0) | bits.get(commit.number, 0)
        for op in commit.diff.ops:
            last = latest[op.key]
            if not known & bits[last]:
                conflicts.setdefault(op.key, MergeConflict(op.key, commit.number, last))
        for parent in commit.parents:
            descendants[parent] = descendants.get(parent, 0) | known
    return _replay(initial, ordered), [conflicts[key] for key in sorted(conflicts)]


def _replay(initial: State, commits: Iterable[CommitLike]) -> dict[str, Json]:
    state = dict(initial)
    for commit in commits:
        commit.diff.apply_to(state)
    return state
