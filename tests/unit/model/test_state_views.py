"""Views: chains of reductions, what a subgraph sees, and merges that cannot be."""

from __future__ import annotations

import json
from random import Random

import pytest
from tests.unit.model.playbook import diff_of
from tests.unit.model.profile import IS_LONG
from tests.unit.model.test_state_merge import INITIAL, World, change, text

from sandgraph.model.history import state_at, writers_at
from sandgraph.model.reducers import Reducer
from sandgraph.model.state import (
    Json,
    MergeConflict,
    Parents,
    ReduceKey,
    Reduction,
    StateDiff,
    View,
    compact,
    merge,
)

MOST = 2**63 - 1
FORK: Parents = {0: (), 1: (0,), 2: (0,)}


def by(reducer: Reducer, value: Json, key: str = "n") -> StateDiff:
    return StateDiff((ReduceKey(key, reducer, value),))


def length(chain: Reduction | None) -> int:
    count = 0
    while chain is not None:
        count, chain = count + 1, chain.before
    return count


def test_a_chain_goes_back_to_the_last_set() -> None:
    view = View.initial({"n": 0})
    for number in range(1, 4):
        view = view.after(number, by(Reducer.ADD, number))
    chain = view.chains["n"]
    assert (chain.number, chain.base, chain.length, length(chain)) == (3, 0, 3, 3)
    assert (view.state, view.writers, view.depth, view.trunk) == ({"n": 6}, {"n": 3}, 3, 3)
    view = view.after(4, diff_of({"n": 1}))
    assert view.chains == {}
    chain = view.after(5, by(Reducer.ADD, 1)).chains["n"]
    assert (chain.number, chain.base, chain.length, chain.before) == (5, 4, 1, None)
    assert view.after(5, by(Reducer.ADD, 1)).after(6, diff_of({}, ["n"])).chains == {}


def test_what_all_branches_saw_is_forgotten() -> None:
    view = View.initial({"n": 0}).after(1, by(Reducer.ADD, 1)).after(2, by(Reducer.ADD, 1), alone=True)
    assert length(view.chains["n"]) == 1
    assert view.after(3, by(Reducer.ADD, 1, "m"), alone=True).chains.keys() == {"m"}
    assert view.after(3, StateDiff(), alone=True).chains == {}
    assert view.after(3, StateDiff()).chains == view.chains


def test_what_is_reduced_need_not_be_there() -> None:
    view = View.initial({}).after(1, by(Reducer.APPEND, [1]))
    assert (view.state, view.writers, view.chains["n"].base) == ({"n": [1]}, {"n": 1}, 0)
    other = View.initial({}).after(2, by(Reducer.APPEND, [2]))
    for views, expected in (([view, other], [1, 2]), ([other, view], [2, 1])):
        merged, conflicts = merge(FORK, views)
        assert (merged.state, conflicts) == ({"n": expected}, [])


def test_a_reducer_that_does_not_go_with_the_value_is_refused() -> None:
    with pytest.raises(ValueError, match="'n': append needs an array and not a number"):
        View.initial({"n": 0}).after(1, by(Reducer.APPEND, [1]))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("one", [{"n": 1}, None])
def test_a_set_beside_a_reduction_is_a_conflict(order: tuple[int, int], one: dict[str, Json] | None) -> None:
    root = View.initial({"n": 0})
    set_or_deleted = root.after(1, diff_of(one) if one else diff_of({}, ["n"]))
    views = [set_or_deleted, root.after(2, by(Reducer.ADD, 5))]
    merged, conflicts = merge(FORK, [views[i] for i in order])
    assert conflicts == [MergeConflict("n", order[0] + 1, order[1] + 1)]
    assert merged.state == views[order[0]].state


def test_a_set_of_what_was_reduced_is_a_conflict_with_a_reduction_beside_it() -> None:
    root = View.initial({"n": 0})
    one = root.after(1, diff_of({"n": 3})).after(3, by(Reducer.ADD, 1))
    other = root.after(2, by(Reducer.ADD, 5))
    parents = {**FORK, 3: (1,)}
    assert merge(parents, [one, other])[1] == [MergeConflict("n", 1, 2)]
    assert merge(parents, [other, one])[1] == [MergeConflict("n", 2, 1)]


def test_two_reducers_of_one_key_are_a_conflict() -> None:
    root = View.initial({"n": 0})
    views = [root.after(1, by(Reducer.ADD, 1)), root.after(2, by(Reducer.MAX, 5))]
    assert merge(FORK, views)[1] == [MergeConflict("n", 1, 2)]


@pytest.mark.parametrize(("before", "added"), [(MOST - 1, 1), (-(2**63) + 1, -1), (0.0, 1e308)])
def test_a_sum_that_no_state_can_hold_is_a_conflict_that_says_so(before: Json, added: Json) -> None:
    root = View.initial({"n": before, "m": [0]})
    views = [
        root.after(number, StateDiff((ReduceKey("m", Reducer.APPEND, [number]), ReduceKey("n", Reducer.ADD, added))))
        for number in (1, 2)
    ]
    merged, (conflict,) = merge(FORK, views)
    assert (conflict.key, conflict.first, conflict.second) == ("n", 1, 2)
    assert conflict.reason == "the key 'n': add leads out of the numbers that a state can hold"
    # The others meet all the same.
    assert merged.state == {"n": views[0].state["n"], "m": [0, 1, 2]}
    assert merged.writers["n"] == 1


def test_what_counts_of_a_sum_is_where_it_ends() -> None:
    root = View.initial({"n": MOST - 1})
    one = root.after(1, by(Reducer.ADD, 1))
    other = root.after(2, by(Reducer.ADD, -5)).after(3, by(Reducer.ADD, 5))
    parents = {**FORK, 3: (2,)}
    for views in ([one, other], [other, one]):
        merged, conflicts = merge(parents, views)
        assert (merged.state, conflicts) == ({"n": MOST}, [])


def test_a_reduction_that_both_branches_saw_counts_once() -> None:
    root = View.initial({"n": [0]})
    parents: dict[int, tuple[int, ...]] = {0: ()}
    views = []
    for number in (1, 2, 3):
        parents[number] = (0,)
        views.append(root.after(number, by(Reducer.APPEND, [number])))
    left, _ = merge(parents, [views[0], views[1]])
    right, _ = merge(parents, [views[2], views[1]])
    assert merge(parents, [left, right])[0].state == {"n": [0, 1, 2, 3]}
    assert merge(parents, [right, left])[0].state == {"n": [0, 3, 2, 1]}
    joined, _ = merge(parents, [left, right, views[1]])
    assert (joined.state, joined.writers, joined.heads) == ({"n": [0, 1, 2, 3]}, {"n": 3}, (1, 2, 3))
    # What met in another order is merged all the same, with nothing left to take.
    assert merge(parents, [joined, merge(parents, [right, left])[0]]) == (joined, [])


def test_a_branch_that_fell_behind_is_laid_on_the_trunk_of_the_other() -> None:
    root = View.initial({"n": 0, "m": 0})
    ahead = root.after(1, by(Reducer.ADD, 1)).after(2, diff_of({"m": 1}))
    parents = {0: (), 1: (0,), 2: (1,)}
    merged, _ = merge(parents, [root, ahead])
    assert (merged.trunk, merged.merged, merged.depth, merged.state) == (2, frozenset(), 2, ahead.state)
    merged, _ = merge(parents, [ahead, root])
    assert merged == ahead
    other = root.after(3, diff_of({"k": 1}))
    merged, _ = merge({**parents, 3: (0,)}, [other, ahead])
    assert (merged.trunk, merged.depth) == (3, 1)
    assert merged.merged_ops() == diff_of({"m": 1, "n": 1})
    assert merged.merged_writers() == {"m": 2, "n": 1}


def test_a_branch_that_fell_behind_keeps_the_order_in_which_it_met() -> None:
    root = View.initial({"n": [0]})
    one, other = root.after(1, by(Reducer.APPEND, [1])), root.after(2, by(Reducer.APPEND, [2]))
    behind, _ = merge(FORK, [one, other])
    ahead = merge(FORK, [other, one])[0].after(3, by(Reducer.APPEND, [3]))
    parents = {**FORK, 3: (1, 2)}
    merged, _ = merge(parents, [behind, ahead])
    assert (merged.state, merged.heads, merged.trunk) == ({"n": [0, 1, 2, 3]}, (3,), 1)
    assert merged.merged_ops().apply(one.state) == merged.state
    merged, _ = merge(parents, [ahead, behind])
    assert merged == ahead


def test_a_chain_is_as_long_as_it_has_to_be() -> None:
    # A loop beside a branch that waits all the while.
    many = 20_000
    view = root = View.initial({"n": 0})
    for number in range(1, many):
        after = view.after(number, by(Reducer.ADD, 1))
        assert after.chains["n"].before is view.chains.get("n")
        view = after
    twin = root
    for number in range(1, many):
        twin = twin.after(number, by(Reducer.ADD, 1))
    assert view == twin
    assert view != twin.after(many, by(Reducer.ADD, 1))
    assert hash(view.chains["n"]) == hash(twin.chains["n"])
    assert "before" not in repr(view.chains["n"])
    assert len(repr(view)) < 1_000


def test_of_two_long_chains_only_what_they_do_not_share_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    # A loop in which branches fork and meet, beside a branch that waits all the while.
    made = 0
    real = Reduction.after

    def counted(before: Reduction | None, number: int, op: ReduceKey, base: int) -> Reduction:
        nonlocal made
        made += 1
        return real(before, number, op, base)

    monkeypatch.setattr(Reduction, "after", counted)
    waiting = view = View.initial({"n": [0]})
    parents: dict[int, tuple[int, ...]] = {0: ()}
    laps = 300
    for number in range(1, 2 * laps, 2):
        parents[number] = parents[number + 1] = view.heads
        one = view.after(number, by(Reducer.APPEND, [number]))
        other = view.after(number + 1, by(Reducer.APPEND, [number + 1]))
        view, conflicts = merge(parents, [one, other])
        assert not conflicts
        parents = dict(compact(parents, [waiting, view]))
    assert view.state == {"n": list(range(2 * laps + 1))}
    assert made == 3 * laps
    assert set(parents) >= set(range(1, 2 * laps + 1))


@pytest.mark.parametrize(
    ("inputs", "state", "merged"),
    [
        (None, {"a": 1, "b": 2, "c": 3}, {"c"}),
        ([], {}, {"a", "b", "c"}),
        ([("a", "a"), ("b", "b"), ("c", "c")], {"a": 1, "b": 2, "c": 3}, {"c"}),
        ([("a", "a")], {"a": 1}, {"b", "c"}),
        ([("x", "a"), ("y", "none")], {"x": 1}, {"a", "b", "c", "x"}),
        ([("a", "b"), ("b", "a"), ("d", "none")], {"a": 2, "b": 1}, {"a", "b", "c"}),
        ([("a", "none")], {}, {"a", "b", "c"}),
    ],
)
def test_what_a_subgraph_sees(inputs: list[tuple[str, str]] | None, state: dict[str, Json], merged: set[str]) -> None:
    root = View.initial({"a": 1})
    one, other = root.after(1, by(Reducer.ADD, 2, "b")), root.after(2, diff_of({"c": 3}))
    outer, _ = merge(FORK, [one, other])
    inner = outer.inside(inputs)
    assert (inner.heads, inner.trunk, inner.depth, inner.chains) == ((1, 2), 1, 1, {})
    assert inner.state == state
    assert inner.writers == dict.fromkeys(state, 2)
    assert inner.merged == merged
    assert inner.merged_ops().apply(one.state) == state
    assert inner.merged_writers() == dict.fromkeys(merged & state.keys(), 2)


@pytest.mark.parametrize("seed", range(1_000 if IS_LONG else 40))
def test_a_subgraph_is_a_run_of_its_own_over_what_it_sees(seed: int) -> None:
    random = Random(seed)
    outer = World(random)
    while len(outer.commits) < 10:
        outer.step()
    view, _ = random.choice(outer.live)
    inputs = [("append", "append"), ("add", "max"), ("plain", "plain"), ("merge", "none"), ("min", "min")]
    start = view.inside(random.choice([None, inputs, random.sample(inputs, 2)]))
    inner = World(random, json.loads(text(start.state)))
    inner.live = [(start, [])]
    inner.first, inner.root = len(outer.commits), start
    inner.parents = dict.fromkeys(start.heads, ())
    for _ in range(30):
        inner.step()
    for number, after in inner.after.items():
        chain = inner.chain(number)
        chain = [*outer.chain(chain[0].trunk), *chain]
        assert after.depth == len(chain)
        assert text(state_at(INITIAL, chain)) == text(after.state)
        assert writers_at(dict.fromkeys(INITIAL, 0), chain).keys() == after.state.keys()


@pytest.mark.parametrize("seed", range(1_000 if IS_LONG else 40))
def test_what_comes_first_in_time_plays_no_part(seed: int) -> None:
    random = Random(seed)
    # What each step makes its view of: those of earlier ones, and what is changed, if that is not a merge.
    steps: list[tuple[list[int], StateDiff | None]] = []
    parents: dict[int, tuple[int, ...]] = {0: ()}
    views = [View.initial(INITIAL)]
    for _ in range(40):
        if random.random() < 0.6:
            i = random.choice([random.randrange(len(views)), len(views) - 1])
            diff = change(random, views[i].state)
            number = len(parents)
            parents[number] = views[i].heads
            steps.append(([i], diff))
            views.append(views[i].after(number, diff))
        else:
            sources = random.sample(range(len(views)), random.randint(1, min(len(views), 3)))
            merged, conflicts = merge(parents, [views[i] for i in sources])
            if not conflicts:
                steps.append((sources, None))
                views.append(merged)
    for _ in range(3):
        for one, other in zip(views, again(random, steps), strict=True):
            assert text(one.state) == text(other.state)
            assert list(one.state.get("append", [])) == list(other.state.get("append", []))  # type: ignore[arg-type]
            assert one.depth == other.depth
            assert one.merged == other.merged


def again(random: Random, steps: list[tuple[list[int], StateDiff | None]]) -> list[View]:
    """Take the steps in another order, so that commits have other numbers."""
    views: dict[int, View] = {0: View.initial(INITIAL)}
    parents: dict[int, tuple[int, ...]] = {0: ()}
    todo = dict(enumerate(steps, start=1))
    while todo:
        i = random.choice([i for i, (sources, _) in todo.items() if all(source in views for source in sources)])
        sources, diff = todo.pop(i)
        if diff is None:
            views[i], conflicts = merge(parents, [views[source] for source in sources])
            assert not conflicts
        else:
            number = len(parents)
            parents[number] = views[sources[0]].heads
            views[i] = views[sources[0]].after(number, diff)
    return [views[i] for i in sorted(views)]
