"""The state of a checkpoint as its definition has it, which what the platform reads is compared with."""

from __future__ import annotations

from collections.abc import Iterable

from sandgraph.model.history import CommitLike
from sandgraph.model.state import Json, Parents, State, past


def state_by_ancestors(initial: State, commits: Iterable[CommitLike], number: int) -> dict[str, Json] | None:
    """Return the state of checkpoint ``number`` of a run without reducers or subgraphs; None if there is none.

    It walks that commit and all its ancestors.

    Args:
        initial: The state of commit 0.
        commits: All commits up to that one, in any order.
        number: From 0.
    """
    known = sorted((commit for commit in commits if commit.number <= number), key=lambda commit: commit.number)
    parents: Parents = {0: (), **{commit.number: commit.parents for commit in known}}
    if number not in parents:
        return None
    seen = past(parents, [number])
    # Branches that met had no key in conflict, so among ancestors whoever set a key last saw all that set it before.
    state = dict(initial)
    for commit in known:
        if commit.number in seen:
            commit.diff.apply_to(state)
    return state
