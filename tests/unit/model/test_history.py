"""States of the past."""

from __future__ import annotations

from random import Random

import pytest
from tests.unit.model.ancestors import state_by_ancestors
from tests.unit.model.playbook import diff_of, key_of
from tests.unit.model.programs import INITIAL, program
from tests.unit.model.simulation import Simulation

from sandgraph.model.commands import RecordCommit
from sandgraph.model.history import apart, state_so_far
from sandgraph.model.reducers import Reducer
from sandgraph.model.state import Json, MergeConflict, ReduceKey, StateDiff, past


def commit(number: int, *parents: int, delete: str = "", **changes: Json) -> RecordCommit:
    return RecordCommit(number, parents, diff_of(changes, [delete] if delete else []), key_of("a"), 1)


COMMITS = [commit(1, 0, a=1), commit(2, 1, b=2), commit(3, 1, c=3), commit(4, 2, 3, a=4, delete="b"), commit(5, 3, d=5)]


def test_the_state_so_far_is_that_of_all_branches() -> None:
    assert state_so_far({"z": 0}, reversed(COMMITS)) == ({"z": 0, "a": 4, "c": 3, "d": 5}, [])
    assert state_so_far({"z": 0}, []) == ({"z": 0}, [])


def test_in_the_state_so_far_the_latest_value_stands_and_conflicts_are_named() -> None:
    commits = [commit(1, 0, a=1), commit(2, 0, a=2, b=2), commit(3, 1, a=3, c=3), commit(4, 2, delete="b")]
    assert state_so_far({}, commits) == ({"a": 3, "c": 3}, [MergeConflict("a", 2, 3)])
    commits += [commit(5, 0, b=5)]
    assert state_so_far({}, commits) == ({"a": 3, "b": 5, "c": 3}, [MergeConflict("a", 2, 3), MergeConflict("b", 4, 5)])


def test_a_conflict_names_the_latest_commit_that_the_last_did_not_see() -> None:
    commits = [commit(1, 0, a=1), commit(2, 1, a=2), commit(3, 0, a=3)]
    assert state_so_far({}, commits)[1] == [MergeConflict("a", 2, 3)]


def added(number: int, *parents: int, key: str = "n", value: Json = 1, by: Reducer = Reducer.ADD) -> RecordCommit:
    return RecordCommit(number, parents, StateDiff((ReduceKey(key, by, value),)), key_of("a"), 1)


def test_in_the_state_so_far_reductions_go_together() -> None:
    commits = [added(1, 0), added(2, 0, value=5), added(3, 1, value=0.5), commit(4, 0, m=1)]
    assert state_so_far({"n": 1}, reversed(commits)) == ({"n": 7.5, "m": 1}, [])
    assert state_so_far({}, commits[:2]) == ({"n": 6}, [])


@pytest.mark.parametrize(
    ("commits", "n", "conflict"),
    [
        # Set beside a reduction: before it, after it, and after another reduction that saw it.
        ([added(1, 0), commit(2, 0, n=7)], 7, (1, 2)),
        ([commit(1, 0, n=7), added(2, 0)], 8, (1, 2)),
        ([commit(1, 0, n=7), added(2, 0), added(3, 1)], 9, (1, 2)),
        ([commit(1, 0, n=7), added(2, 0), added(3, 0), added(4, 1)], 10, (1, 3)),
        ([added(1, 0), commit(2, 0, n=7), added(3, 2)], 8, (1, 2)),
        ([commit(1, 0, delete="n"), added(2, 0)], 1, (1, 2)),
        ([added(1, 0), commit(2, 0, delete="n")], None, (1, 2)),
        # After it, or under both.
        ([commit(1, 0, n=7), added(2, 1), added(3, 1)], 9, None),
        ([added(1, 0), added(2, 0), commit(3, 1, 2, n=7), added(4, 3), added(5, 3)], 9, None),
        ([added(1, 0), added(2, 0), commit(3, 1, n=7)], 7, (2, 3)),
    ],
)
def test_a_set_beside_a_reduction_is_named(
    commits: list[RecordCommit], n: Json, conflict: tuple[int, int] | None
) -> None:
    state, conflicts = state_so_far({"n": 0}, commits)
    assert state.get("n") == n
    assert conflicts == ([MergeConflict("n", *conflict)] if conflict else [])


def test_the_state_so_far_shows_something_of_what_cannot_be() -> None:
    commits = [commit(1, 0, n=2**63 - 1, s="x"), added(2, 1), added(3, 1, key="s", value=[1], by=Reducer.APPEND)]
    assert state_so_far({}, commits) == ({"n": 1, "s": [1]}, [])


@pytest.mark.parametrize("seed", range(300))
def test_conflicts_so_far_are_those_of_the_last_set(seed: int) -> None:
    random = Random(seed)
    commits: list[RecordCommit] = []
    for number in range(1, 12):
        parents = tuple(sorted({random.randrange(number) for _ in range(random.choice([1, 1, 2]))}))
        changed = commit(number, *parents, n=1) if random.random() < 0.5 else commit(number, *parents, m=1)
        commits.append(random.choice([changed, added(number, *parents, key=random.choice("nm"))]))
    parents_of = {0: (), **{each.number: each.parents for each in commits}}
    expected = set()
    for key in "nm":
        changes = [each for each in commits if each.diff.ops[0].key == key]
        sets = [each.number for each in changes if not isinstance(each.diff.ops[0], ReduceKey)]
        for number in [each.number for each in changes if sets]:
            if sets[-1] not in past(parents_of, [number]) and number not in past(parents_of, sets[-1:]):
                expected.add(key)
    assert {each.key for each in state_so_far({}, commits)[1]} == expected


def test_reading_changes_nothing() -> None:
    initial: dict[str, Json] = {"z": 0}
    state_so_far(initial, COMMITS)[0]["z"] = 1
    assert initial == {"z": 0}


def test_views_of_the_scheduler_are_checkpoints() -> None:
    random = Random(0)
    for _ in range(100):
        simulation = Simulation(program(random.choice))
        while not simulation.run.status.is_final:
            commits = list(simulation.ledger.commits.values())
            for start in simulation.ledger.running.values():
                (head, *more) = start.view.heads
                if not more:
                    assert state_by_ancestors(INITIAL, commits, head) == start.view.state
            key = random.choice(sorted(simulation.run.active, key=str))
            tell = simulation.wait_no_more if simulation.run.active[key].is_waiting else simulation.succeed
            tell(key)


def test_a_long_history_is_read_without_walking_it_over_and_over() -> None:
    keys = [f"k{n % 1_000}" for n in range(10_000)]
    commits = [RecordCommit(n, (max(0, n - 2),), diff_of({keys[n]: n}), key_of("a"), 1) for n in range(1, 10_000)]
    state, conflicts = state_so_far({}, commits)
    assert len(state) == 1_000
    assert not conflicts


@pytest.mark.parametrize(
    ("parents", "since", "beside"),
    [
        ([], 0, set()),
        ([(0,)], 1, set()),
        ([(0,), (1,), (2,)], 3, set()),
        # Apart since the start, since a commit, and met again.
        ([(0,), (0,)], 0, {1}),
        ([(0,), (1,), (1,), (2,), (4,)], 1, {3}),
        ([(0,), (1,), (1,), (2, 3)], 4, set()),
        ([(0,), (1,), (1,), (2, 3), (4,), (4,)], 4, {5}),
        # A branch that goes on from before others parted and met.
        ([(0,), (1,), (1,), (2, 3), (1,)], 1, {2, 3, 4}),
        ([(0,), (1,), (1,), (2, 3), (1,), (4,)], 1, {5}),
    ],
)
def test_branches_are_apart_since_the_last_commit_that_all_went_through(
    parents: list[tuple[int, ...]], since: int, beside: set[int]
) -> None:
    commits = list(enumerate(parents, 1))
    found = apart(commits)
    assert (found.since, found.tip, set(found.beside)) == (since, len(parents), beside)
    assert list(found.commits) == commits[since:]
