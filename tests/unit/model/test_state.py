"""Diffs, views, merges, and what may be forgotten of a history."""

from __future__ import annotations

from random import Random

import pytest
from tests.unit.model.playbook import diff_of
from tests.unit.model.profile import IS_LONG

from sandgraph.model.state import (
    DeleteKey,
    Json,
    MergeConflict,
    Parents,
    SetKey,
    StateDiff,
    View,
    compact,
    has_more_values,
    merge,
    past,
)

KEYS = "abcd"


def test_a_diff_sets_and_deletes() -> None:
    diff = diff_of({"a": 1, "b": [2]}, ["c", "none"])
    before = {"a": 0, "c": 3, "d": 4}
    assert diff.apply(before) == {"a": 1, "b": [2], "d": 4}
    assert before == {"a": 0, "c": 3, "d": 4}
    assert diff
    assert not StateDiff()


@pytest.mark.parametrize(
    ("state", "count"),
    [
        ({}, 0),
        ({"a": 1, "b": None}, 2),
        ({"a": []}, 1),
        ({"a": [1, "x,y[", {"b": [2, 3], "c": {}}]}, 8),
        ({"a": [[[[[1]]]]]}, 6),
    ],
)
def test_values_are_counted_at_any_depth(state: dict[str, Json], count: int) -> None:
    assert not has_more_values(state, count)
    assert has_more_values(state, count - 1)


def test_deletes_of_what_is_not_there_are_left_out() -> None:
    diff = diff_of({"a": 1}, ["b", "c"])
    assert diff.without_idle_deletes({"b": 0}) == diff_of({"a": 1}, ["b"])
    assert diff.without_idle_deletes({"b": 0, "c": 0}) is diff


def test_a_diff_as_json_and_back() -> None:
    diff = diff_of({"b": {"x": None}}, ["a"])
    written = diff.to_json()
    assert written == [{"op": "delete", "key": "a"}, {"op": "set", "key": "b", "value": {"x": None}}]
    assert StateDiff.from_json(written) == diff
    assert StateDiff.from_json(written[::-1]) == diff
    assert StateDiff.from_json([]) == StateDiff()


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ({}, "list"),
        (None, "list"),
        ([1], "neither a set nor a delete"),
        ([{"op": "set", "key": "a"}], "neither"),
        ([{"op": "set", "key": 1, "value": 1}], "neither"),
        ([{"op": "set", "key": "a", "value": 1, "more": 1}], "neither"),
        ([{"op": "delete", "key": "a", "value": 1}], "neither"),
        ([{"op": "append", "key": "a", "value": 1}], "the key .a.: append needs an array and not a number"),
        ([{"op": "push", "key": "a", "value": 1}], "neither"),
        ([{"op": "append", "key": "a", "value": [1], "more": 1}], "neither"),
        ([{"op": "set", "key": "a", "value": 1}, {"op": "delete", "key": "a"}], "'a' has two operations"),
    ],
)
def test_what_is_no_diff_is_refused(ops: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StateDiff.from_json(ops)


def test_a_view_knows_who_wrote_each_key() -> None:
    view = View.initial({"a": 0, "b": 0}).after(1, diff_of({"a": 1})).after(2, diff_of({}, ["b"])).after(3, StateDiff())
    assert (view.heads, view.state, view.writers) == ((3,), {"a": 1}, {"a": 1, "b": 2})
    assert view.without_old_deletions({3: ()}).writers == {"a": 1}
    assert view.without_old_deletions({2: (), 3: (2,)}).writers == {"a": 1, "b": 2}


def test_a_conflict_keeps_the_earlier_branch() -> None:
    root = View.initial({})
    one, two = root.after(1, diff_of({"a": 1})), root.after(2, diff_of({"a": 2}))
    merged, conflicts = merge({0: (), 1: (0,), 2: (0,)}, [two, one])
    assert merged.state == {"a": 2}
    assert conflicts == [MergeConflict("a", 2, 1)]


def test_a_merge_of_one_view_is_that_view() -> None:
    root = View.initial({})
    assert merge({0: ()}, [root]) == (root, [])
    assert merge({0: ()}, [root, root])[0] is root


class History:
    """Random commits over random merges of what was there, each view with the commits in its past."""

    def __init__(self, random: Random) -> None:
        root = View.initial({"a": 0})
        self.random = random
        self.parents: dict[int, tuple[int, ...]] = {0: ()}
        self.changes: dict[int, dict[str, object]] = {0: {"a": 0}}
        self.views = [(root, frozenset({0}))]

    def grow(self) -> None:
        chosen = [self.random.choice(self.views) for _ in range(self.random.choice([1, 1, 2, 3]))]
        seen = frozenset[int]().union(*(each for _, each in chosen))
        merged, conflicts = merge(self.parents, [view for view, _ in chosen])
        assert bool(conflicts) is bool(self.disputed(seen))
        for conflict in conflicts:
            assert conflict.key in self.disputed(seen)
        if conflicts:
            return
        assert merged.heads == self.heads(seen)
        assert merged.state == self.state(seen)
        if self.random.random() < 0.7:
            number = len(self.parents)
            keys = self.random.sample(KEYS, self.random.randint(0, 2))
            diff = diff_of(dict.fromkeys(keys[:1], number), keys[1:]).without_idle_deletes(merged.state)
            self.parents[number] = merged.heads
            self.changes[number] = {op.key: number if isinstance(op, SetKey) else None for op in diff.ops}
            merged, seen = merged.after(number, diff), seen | {number}
        self.views.append((merged, seen))

    def ancestors(self, number: int) -> set[int]:
        return past(self.parents, [number]) - {number}

    def heads(self, seen: frozenset[int]) -> tuple[int, ...]:
        return tuple(sorted(n for n in seen if not any(n in self.ancestors(other) for other in seen)))

    def last_writers(self, seen: frozenset[int], key: str) -> list[int]:
        writers = [number for number in seen if key in self.changes[number]]
        return [n for n in writers if not any(n in self.ancestors(other) for other in writers)]

    def disputed(self, seen: frozenset[int]) -> set[str]:
        return {key for key in KEYS if len(self.last_writers(seen, key)) > 1}

    def state(self, seen: frozenset[int]) -> dict[str, object]:
        last = {key: self.changes[number][key] for key in KEYS for number in self.last_writers(seen, key)}
        return {key: value for key, value in last.items() if value is not None}


def same_merge(one: Parents, other: Parents, views: list[View]) -> None:
    (first, conflicts), (second, others) = merge(one, views), merge(other, views)
    assert conflicts == others
    assert first.state == second.state
    assert first.heads == second.heads


@pytest.mark.parametrize("seed", range(2_000 if IS_LONG else 40))
def test_merges_are_what_the_history_says(seed: int) -> None:
    history = History(Random(seed))
    for _ in range(15):
        history.grow()


@pytest.mark.parametrize("seed", range(2_000 if IS_LONG else 40))
def test_what_is_forgotten_makes_no_difference(seed: int) -> None:
    random = Random(seed)
    history = History(random)
    for _ in range(15):
        history.grow()
    live = random.sample(history.views, min(len(history.views), random.randint(1, 5)))
    kept = compact(history.parents, [view for view, _ in live])
    assert all(set(parents) <= set(kept) for parents in kept.values())
    views = [view.without_old_deletions(kept) if random.random() < 0.5 else view for view, _ in live]
    for _ in range(10):
        chosen = [random.choice(views) for _ in range(random.randint(1, 3))]
        same_merge(history.parents, kept, chosen)
        # A branch goes on after some was forgotten.
        number = len(history.parents)
        merged, conflicts = merge(kept, chosen)
        if not conflicts:
            history.parents[number] = merged.heads
            kept = {**kept, number: merged.heads}
            views.append(merged.after(number, diff_of({random.choice(KEYS): number})))


def test_of_a_long_branch_only_what_its_keys_need_is_kept() -> None:
    root = View.initial({})
    parents: dict[int, tuple[int, ...]] = {0: ()}
    waiting = root.after(1, diff_of({"a": 1}))
    parents[1] = (0,)
    view = root
    for number in range(2, 1_000):
        parents[number] = view.heads
        view = view.after(number, diff_of({f"k{number % 5}": number}))
    assert compact(parents, [waiting, view]) == {
        1: (),
        **{n: (n - 1,) if n > 995 else () for n in range(995, 1_000)},
    }


def test_operations_say_what_they_are() -> None:
    assert diff_of({"a": 1}, ["b"]).ops == (SetKey("a", 1), DeleteKey("b"))
