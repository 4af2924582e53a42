"""States of the past, made again from a run's commits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sandgraph.model.state import Json, MergeConflict, Parents, State, StateDiff, View, merge


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
    views, _ = _views(initial, (commit for commit in commits if commit.number <= number), keep=number)
    return dict(views[number].state) if number in views else None


def state_so_far(initial: State, commits: Iterable[CommitLike]) -> tuple[dict[str, Json], list[MergeConflict]]:
    """Return the merge of all branches of a run in flight, and where they conflict."""
    views, parents = _views(initial, commits)
    merged, conflicts = merge(parents, [views[number] for number in sorted(views)])
    return dict(merged.state), conflicts


def _views(initial: State, commits: Iterable[CommitLike], keep: int | None = None) -> tuple[dict[int, View], Parents]:
    """Return the views of the commits that have no child yet (and of ``keep``), and everyone's parents."""
    ordered = sorted(commits, key=lambda commit: commit.number)
    children: dict[int, int] = {}
    for commit in ordered:
        for parent in commit.parents:
            children[parent] = children.get(parent, 0) + 1
    views = {0: View.initial(initial)}
    parents: dict[int, tuple[int, ...]] = {0: ()}
    for commit in ordered:
        seen, _ = merge(parents, [views[parent] for parent in commit.parents])
        parents[commit.number] = commit.parents
        views[commit.number] = seen.after(commit.number, commit.diff)
        for parent in commit.parents:
            children[parent] -= 1
            if not children[parent] and parent != keep:
                del views[parent]
    return views, parents
