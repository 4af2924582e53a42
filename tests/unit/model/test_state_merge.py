"""Merges of reductions, against a history that is replayed from its start, operation by operation.

There a view is a list of commits: its own, then those of the branches merged into it that it did not have. Its state is
what they make of the initial one in that order, and two commits conflict if neither is in the other's list, they change
one key, and not both by its reducer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest
from tests.unit.model.profile import IS_LONG

from sandgraph.model.history import state_at, writers_at
from sandgraph.model.reducers import Reducer
from sandgraph.model.state import (
    DeleteKey,
    Json,
    MergeConflict,
    Op,
    SetKey,
    State,
    StateDiff,
    View,
    compact,
    merge,
)

REDUCERS = {
    "append": Reducer.APPEND,
    "union": Reducer.UNION,
    "add": Reducer.ADD,
    "float": Reducer.ADD,
    "min": Reducer.MIN,
    "max": Reducer.MAX,
    "merge": Reducer.MERGE,
}
INITIAL: State = {"append": [0], "union": [0, 1], "add": 0, "float": 0.1, "min": 9, "merge": {"a": 0}, "plain": 0}
SEEDS = range(3_000 if IS_LONG else 60)

#: What a commit did to a key: a name, and a value or an operand.
Deed = tuple[str, Json]


@dataclass(frozen=True)
class Commit:
    """As the store has one."""

    number: int
    parents: tuple[int, ...]
    diff: StateDiff
    trunk: int
    merged: StateDiff
    merged_writers: Mapping[str, int]


@dataclass
class Replay:
    """The history a second time: for each commit what it did, and which it saw."""

    initial: State
    deeds: dict[int, dict[str, Deed]] = field(default_factory=dict)
    saw: dict[int, frozenset[int]] = field(default_factory=dict)

    def commit(self, number: int, order: list[int], diff: StateDiff) -> list[int]:
        deeds: dict[str, Deed] = {}
        for each in diff.to_json():
            deeds[str(each["key"])] = str(each["op"]), each.get("value")
        self.deeds[number], self.saw[number] = deeds, frozenset(order)
        return [*order, number]

    def joined(self, one: list[int], other: list[int]) -> list[int]:
        return [*one, *(number for number in other if number not in one)]

    def disputed(self, order: list[int]) -> set[str]:
        found: set[str] = set()
        for one in order:
            for other in order:
                if one < other and one not in self.saw[other] and other not in self.saw[one]:
                    both = self.deeds[one].keys() & self.deeds[other].keys()
                    names = {key: {self.deeds[one][key][0], self.deeds[other][key][0]} for key in both}
                    found |= {key for key in both if len(names[key]) > 1 or names[key] & {"set", "delete"}}
        return found

    def state(self, order: list[int]) -> dict[str, Json]:
        state = json.loads(json.dumps(self.initial))
        for number in order:
            for key, (name, value) in self.deeds[number].items():
                if name == "delete":
                    state.pop(key, None)
                else:
                    state[key] = becomes(state.get(key), name, value)
        return state  # type: ignore[no-any-return]


def becomes(was: Json, name: str, value: Json) -> Json:
    """What an operation makes of a value, None standing for none: told by its words alone."""
    made: object = value
    match name, was, value:
        case "append", list(), list():
            made = was + value
        case "union", None | list(), list():
            made = [*dict.fromkeys([*(was or []), *value])]
        case "add", int() | float(), int() | float():
            made = was + value
        case "min" | "max", int(), int():
            made = sorted([was, value])[0 if name == "min" else -1]
        case "merge", dict(), dict():
            made = {**was, **value}
        case _:
            assert name == "set" or was is None
    return made  # type: ignore[return-value]


def change(random: Random, state: State) -> StateDiff:
    """What a node might do to a state, told as reductions where it can be."""
    ops: list[Op] = []
    for key in random.sample([*REDUCERS, "plain"], random.choice([0, 1, 1, 2, 4])):
        what = random.random()
        if what < 0.04 and key in state:
            ops.append(DeleteKey(key))
        elif what < 0.08 and key not in {"append", "union"}:
            ops.append(SetKey(key, {} if key == "merge" else random.randint(-9, 9)))
        elif key != "plain" or what < 0.2:
            ops.append(SetKey(key, grown(random, key, state.get(key))))
    return StateDiff(tuple(sorted(ops, key=lambda op: op.key))).reduced(state, REDUCERS)


def grown(random: Random, key: str, was: Json) -> Json:
    """What ordinary code might make of a key's value."""
    number = random.randint(-9, 9)
    made: object = number
    if key == "append":
        made = [*(was or []), *[number] * random.randint(0, 2)]  # type: ignore[misc]
    elif key == "union":
        made = sorted({*(was or []), number})  # type: ignore[misc]
    elif key == "merge":
        made = {**(was or {}), random.choice("abc"): number}  # type: ignore[dict-item]
    elif key in {"min", "max"} and was is not None:
        made = was - random.randint(0, 2) if key == "min" else was + random.randint(0, 2)  # type: ignore[operator]
    elif key in {"add", "float"} and was is not None:
        made = was + (number if key == "add" else number / 7)  # type: ignore[operator]
    return made  # type: ignore[return-value]


class World:
    """Live branches that go on, fork and meet at random; each a view, with the replay's list."""

    def __init__(self, random: Random, initial: State = INITIAL) -> None:
        self.random = random
        # A subgraph's commits go on from those outside.
        self.first = 0
        self.root = View.initial(initial)
        self.replay = Replay(initial)
        self.parents: dict[int, tuple[int, ...]] = {0: ()}
        self.commits: dict[int, Commit] = {}
        self.after: dict[int, View] = {}
        self.live: list[tuple[View, list[int]]] = [(self.root, [])]

    def step(self) -> None:
        what = self.random.random()
        if what < 0.5:
            self.commit(self.random.randrange(len(self.live)))
        elif what < 0.75 and len(self.live) < 6:
            self.live.append(self.random.choice(self.live))
        else:
            self.meet(self.random.sample(range(len(self.live)), self.random.randint(1, len(self.live))))

    def commit(self, index: int) -> None:
        view, order = self.live[index]
        number = self.first + len(self.replay.deeds) + 1
        diff = change(self.random, view.state)
        self.live[index] = self.made(view, number, diff), self.replay.commit(number, order, diff)

    def made(self, view: View, number: int, diff: StateDiff) -> View:
        self.parents[number] = view.heads
        self.commits[number] = Commit(number, view.heads, diff, view.trunk, view.merged_ops(), view.merged_writers())
        after = self.after[number] = view.after(number, diff)
        return after

    def meet(self, indices: list[int]) -> None:
        chosen = [self.live[i] for i in indices]
        order = chosen[0][1]
        for _, other in chosen[1:]:
            order = self.replay.joined(order, other)
        merged, conflicts = merge(self.parents, [view for view, _ in chosen])
        disputed = self.replay.disputed(order)
        assert {conflict.key for conflict in conflicts} <= disputed
        assert bool(conflicts) is bool(disputed)
        for each in conflicts:
            self.check(each)
        if not conflicts:
            assert merged.state == self.replay.state(order)
            assert merged.heads == tuple(sorted(self.heads(order)))
            assert merged.writers.keys() >= merged.state.keys()
            self.live = [each for i, each in enumerate(self.live) if i not in indices] + [(merged, order)]

    def check(self, conflict: MergeConflict) -> None:
        replay, first, second = self.replay, conflict.first, conflict.second
        assert first not in replay.saw[second]
        assert second not in replay.saw[first]
        deeds = {replay.deeds[first][conflict.key][0], replay.deeds[second][conflict.key][0]}
        assert deeds & {"set", "delete"}

    def heads(self, order: list[int]) -> set[int]:
        return set(order or self.root.heads) - {each for number in order for each in self.replay.saw[number]}

    def chain(self, number: int) -> list[Commit]:
        """Return the commits along the trunk, from the first."""
        found: list[Commit] = []
        while number in self.commits:
            found.append(self.commits[number])
            number = found[-1].trunk
        return found[::-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_merge_is_what_the_replay_says(seed: int) -> None:
    world = World(Random(seed))
    for _ in range(40):
        world.step()
    assert len(world.commits) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_state_of_the_past_is_made_again_along_its_trunk(seed: int) -> None:
    world = World(Random(seed))
    for _ in range(40):
        world.step()
    for number, view in world.after.items():
        chain = world.chain(number)
        assert view.depth == len(chain)
        assert (view.trunk, view.merged, view.heads) == (number, frozenset(), (number,))
        assert text(state_at(INITIAL, chain)) == text(dict(view.state))
        written = {key: view.writers[key] for key in view.state}
        assert writers_at(dict.fromkeys(INITIAL, 0), chain) == written
        # From any snapshot on.
        cut = world.random.randrange(len(chain))
        base = world.after[chain[cut].number]
        assert text(state_at(base.state, chain[cut + 1 :])) == text(dict(view.state))
        assert writers_at({key: base.writers[key] for key in base.state}, chain[cut + 1 :]) == written


def text(state: State) -> str:
    return json.dumps(state, sort_keys=True)


def test_a_state_is_made_again_of_what_follows_one_another_only() -> None:
    world = World(Random(3))
    while len(world.commits) < 9:
        world.step()
    chain = world.chain(9)
    with pytest.raises(ValueError, match=r"^commit \d+ was made over \d+, and not over \d+$"):
        state_at(INITIAL, [*chain, chain[0]])


class Forgetful(World):
    """A world in which what no merge can ask about is forgotten as soon as can be, beside one that forgets nothing."""

    def __init__(self, random: Random, initial: State = INITIAL) -> None:
        super().__init__(random, initial)
        self.kept: dict[int, tuple[int, ...]] = {0: ()}
        self.twins: list[View] = [view for view, _ in self.live]

    def step(self) -> None:
        what = self.random.random()
        if what < 0.55:
            index = self.random.randrange(len(self.live))
            view, order = self.live[index]
            twin = self.twins[index]
            alone = len({view.heads for view in self.twins}) == 1
            number = len(self.replay.deeds) + 1
            diff = change(self.random, view.state)
            self.live[index] = self.made(view, number, diff), self.replay.commit(number, order, diff)
            self.kept[number] = twin.heads
            self.twins[index] = twin.after(number, diff, alone=alone)
        elif what < 0.8 and len(self.live) < 5:
            index = self.random.randrange(len(self.live))
            self.live.append(self.live[index])
            self.twins.append(self.twins[index])
        else:
            indices = self.random.sample(range(len(self.live)), self.random.randint(1, len(self.live)))
            found, conflicts = merge(self.kept, [self.twins[i] for i in indices])
            wanted, others = merge(self.parents, [self.live[i][0] for i in indices])
            assert conflicts == others
            before = self.live
            self.meet(indices)
            if self.live is not before:
                self.twins = [each for i, each in enumerate(self.twins) if i not in indices] + [found]
                assert text(found.state) == text(wanted.state)
                trunk = self.after[found.trunk].state if found.trunk else INITIAL
                assert text(found.merged_ops().apply(trunk)) == text(found.state)
        self.forget()

    def forget(self) -> None:
        heads = {view.heads for view in self.twins}
        if len(heads) == 1:
            self.kept = dict.fromkeys(heads.pop(), ())
        elif self.random.random() < 0.5:
            self.kept = dict(compact(self.kept, self.twins))
        if self.random.random() < 0.3:
            self.twins = [twin.without_old_deletions(self.kept) for twin in self.twins]
        for (view, _), twin in zip(self.live, self.twins, strict=True):
            assert text(view.state) == text(twin.state)
            assert {key: view.writers[key] for key in view.state} == {key: twin.writers[key] for key in twin.state}
            assert view.heads == twin.heads


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_forgotten_makes_no_difference(seed: int) -> None:
    world = Forgetful(Random(seed))
    for _ in range(60):
        world.step()
