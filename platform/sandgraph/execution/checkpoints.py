"""The state of a run at a checkpoint, or as it is by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandgraph.errors import NotFound
from sandgraph.model.history import state_at, state_so_far
from sandgraph.model.state import Json
from sandgraph.store.store import Store


@dataclass(frozen=True, slots=True)
class RunState:
    """A state, and where it stands in the run's history.

    Attributes:
        data: The state.
        commit: Number of the checkpoint, or of the last commit so far.
        conflicts: Keys that branches in flight have both set; ``data`` has the latest commit's value.
    """

    data: Mapping[str, Json]
    commit: int
    conflicts: tuple[str, ...] = ()


async def read_state(store: Store, run_id: str, at: int | None) -> RunState:
    """Return the state of checkpoint ``at``, or without it the final state, or the merge of all branches so far.

    Raises:
        NotFound: There is no such run, or it has no such checkpoint.
    """
    run = await store.run(run_id)
    if at is not None:
        found = state_at(run.initial_state, await store.commits(run_id, upto=at), at)
        if found is None:
            raise NotFound("checkpoint", str(at))
        return RunState(found, at)
    if run.final_state is not None:
        return RunState(run.final_state, run.last_commit)
    data, conflicts = state_so_far(run.initial_state, await store.commits(run_id))
    return RunState(data, run.last_commit, tuple(dict.fromkeys(each.key for each in conflicts)))
