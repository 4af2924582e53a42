from __future__ import annotations

import time
from random import Random

import pytest
from effort import part_of
from places import Place

from sandgraph.errors import InvalidInput, NotFound
from sandgraph.model.commands import Command, RecordAttempt, RecordCommit, RecordNodeRun, StartAttempt
from sandgraph.model.reducers import Reducer
from sandgraph.model.run import AttemptStatus, NodeRunKey, NodeRunStatus
from sandgraph.model.state import DeleteKey, Json, Op, ReduceKey, SetKey, StateDiff, View, merge
from sandgraph.store import commits
from sandgraph.store.checkpoints import EVERY
from sandgraph.store.records import Checkpoint, CommitRecord, Page
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"


class History:
    """Makes commits of branches that part and meet."""

    def __init__(self, initial: dict[str, Json], seed: int = 0) -> None:
        self.parents: dict[int, tuple[int, ...]] = {0: ()}
        self.views = {0: View.initial(initial)}
        self.commits: list[RecordCommit] = []
        self.random = Random(seed)

    def commit(self, view: View, diff: StateDiff, *, attempt: int | None = 1, scope: str = "") -> View:
        number = len(self.parents)
        after = view.after(number, diff)
        self.parents[number] = view.heads
        key = NodeRunKey(f"n{number % 3}", number, scope)
        made = RecordCommit(number, view.heads, diff, key, attempt, view.trunk, view.merged_ops(), view, after)
        self.commits.append(made)
        self.views[number] = after
        return after

    def grow(self, tips: list[View]) -> None:
        """Go on from a tip, part, or let tips meet."""
        tip = self.random.randrange(len(tips))
        if len(tips) < 4 and self.random.random() < 0.3:
            tips.append(tips[tip])
        if len(tips) > 1 and self.random.random() < 0.3:
            view, conflicts = merge(self.parents, self.random.sample(tips, 2))
            if not conflicts:
                tips.pop()
                tips[0] = self.commit(view, StateDiff())
                return
        key = f"{tip}{self.random.randrange(3)}"
        ops: list[Op] = [SetKey(key, [len(self.parents), None])]
        ops += [DeleteKey("old")] if self.random.random() < 0.1 else []
        ops += [ReduceKey("sum", Reducer.ADD, 1)] if "sum" in tips[tip].state else []
        chosen = StateDiff(tuple(ops)).without_idle_deletes(tips[tip].state)
        tips[tip] = self.commit(tips[tip], chosen)

    def chain(self, length: int, size: int = 1) -> None:
        """Go on from the last commit, again and again."""
        for _ in range(length):
            number = len(self.parents)
            self.commit(self.views[number - 1], StateDiff((SetKey(f"k{number % 50}", "x" * size),)))

    def commands(self, made: list[RecordCommit]) -> list[Command]:
        commands: list[Command] = []
        for commit in made:
            commands.append(RecordNodeRun(commit.key, NodeRunStatus.RUNNING))
            if commit.attempt is not None:
                commands.append(StartAttempt(commit.key, commit.attempt, View.initial({})))
                commands.append(RecordAttempt(commit.key, commit.attempt, AttemptStatus.SUCCEEDED))
            commands += [commit, RecordNodeRun(commit.key, NodeRunStatus.SUCCEEDED)]
        return commands

    async def store(self, store: Store, run_id: str) -> None:
        for start in range(0, len(self.commits), 500):
            await store.apply(run_id, self.commands(self.commits[start : start + 500]))

    def expected(self, number: int) -> Checkpoint:
        view = self.views[number]
        return Checkpoint(view.state, {key: view.writers[key] for key in view.state})


async def accepted(store: Store, run_id: str, initial: dict[str, Json]) -> str:
    """Return a new run of the same graph."""
    version = await store.graph((await store.run(run_id)).graph_id)
    return (await store.create_run(version, initial, functions={}, tools={}, image="image"))[0].run_id


@pytest.mark.parametrize("seed", range(part_of(4)))
async def test_every_state_of_the_past_is_made_again(store: Store, run_id: str, seed: int) -> None:
    initial: dict[str, Json] = {"old": 1, "sum": 0}
    run_id = await accepted(store, run_id, initial)
    history = History(initial, seed)
    tips = [history.views[0]]
    for _ in range(400):
        history.grow(tips)
    await history.store(store, run_id)
    for number in history.views:
        assert await store.checkpoint(run_id, number) == history.expected(number), number


async def test_what_a_subgraph_does_not_see_is_not_in_its_states(store: Store, run_id: str) -> None:
    run_id = await accepted(store, run_id, {"secret": 1, "given": 2})
    history = History({"secret": 1, "given": 2})
    before = history.commit(history.views[0], StateDiff((SetKey("late", 3),)))
    inside = before.inside([("item", "given")])
    history.commit(inside, StateDiff((SetKey("found", 4),)), scope="sub#1")
    history.commit(before, StateDiff((SetKey("found", 4),)), attempt=None)
    await history.store(store, run_id)
    assert (await store.checkpoint(run_id, 2)).state == {"item": 2, "found": 4}
    assert await store.checkpoint(run_id, 2) == history.expected(2)
    assert await store.checkpoint(run_id, 3) == history.expected(3)
    inner, outer = (await store.commit(run_id, 2)), await store.commit(run_id, 3)
    assert (inner.scope, inner.attempt, inner.trunk, inner.merged_writers) == ("sub#1", 1, 1, {"item": 1})
    assert inner.merged == history.commits[1].merged
    assert (outer.scope, outer.attempt, outer.trunk, outer.merged, outer.merged_writers) == (
        "",
        None,
        1,
        StateDiff(),
        {},
    )


async def test_who_made_commits_is_read_without_them(store: Store, run_id: str) -> None:
    history = History({})
    history.chain(1_200)
    before = history.views[1_200]
    history.commit(before, StateDiff(), scope="sub#1")
    history.commit(before, StateDiff(), attempt=None)
    await history.store(store, run_id)
    every = {commit.number: (commit.key, commit.attempt) for commit in history.commits}
    read = store._database.read
    assert await read(commits.authors, run_id, range(1, 1_300)) == every
    assert await read(commits.authors, run_id, {3, 1_201, 5_000}) == {3: every[3], 1_201: every[1_201]}
    assert await read(commits.authors, run_id, []) == {}
    with pytest.raises(NotFound):
        await read(commits.authors, "run_nothing", [])


async def test_states_that_are_not_there_are_not_found(store: Store, run_id: str) -> None:
    for number in (-1, 1, 2**70):
        with pytest.raises(NotFound) as missing:
            await store.checkpoint(run_id, number)
        assert missing.value.code == "checkpoint_not_found"
        with pytest.raises(NotFound) as missing:
            await store.commit(run_id, number)
        assert missing.value.code == "commit_not_found"
    for asked in (store.checkpoint("run_nothing", 0), store.commit("run_nothing", 1), store.history("run_nothing")):
        with pytest.raises(NotFound) as missing:
            await asked
        assert missing.value.code == "run_not_found"
    assert await store.checkpoint(run_id, 0) == Checkpoint({"n": 0}, {"n": 0})


async def test_a_run_that_an_earlier_release_began(store: Store, run_id: str, place: Place) -> None:
    initial: dict[str, Json] = {"old": 1}
    run_id = await accepted(store, run_id, initial)
    history = History(initial, 7)
    tips = [history.views[0]]
    for _ in range(100):
        history.grow(tips)
    await history.store(store, run_id)
    place.sql("UPDATE state_commit SET trunk = NULL, merged = NULL, merged_writers = NULL", "DELETE FROM checkpoint")
    begun = len(history.commits)
    for _ in range(150):
        history.grow(tips)
    for commit in history.commits[begun:]:
        await store.apply(run_id, history.commands([commit]))
    for number in history.views:
        assert await store.checkpoint(run_id, number) == history.expected(number), number


async def test_a_commit_without_what_was_seen_is_stored_as_one_of_an_earlier_release(store: Store, run_id: str) -> None:
    commits = History({"n": 0})
    for number, parents in ((1, (0,)), (2, (0,)), (3, (1, 2))):
        diff, key = StateDiff((SetKey(str(number), number),)), NodeRunKey("a", number)
        await store.apply(run_id, commits.commands([RecordCommit(number, parents, diff, key, 1)]))
    assert [each.trunk for each in await store.commits(run_id)] == [None, None, None]
    assert (await store.checkpoint(run_id, 2)).state == {"n": 0, "2": 2}
    assert await store.checkpoint(run_id, 3) == Checkpoint(
        {"n": 0, "1": 1, "2": 2, "3": 3}, {"n": 0, "1": 1, "2": 2, "3": 3}
    )


async def test_ten_thousand_commits_make_no_state_far(store: Store, run_id: str, place: Place) -> None:
    run_id = await accepted(store, run_id, {})
    history = History({})
    length = part_of(10_000)
    history.chain(length, size=100)
    await history.store(store, run_id)
    kept = [number for (number,) in place.sql("SELECT number FROM checkpoint ORDER BY number")]
    assert kept == list(range(EVERY, length + 1, EVERY))
    times = []
    for number in (length - 1, length, length // 2 + 55, 64, 63, 1, 0):
        began = time.perf_counter()
        assert await store.checkpoint(run_id, number) == history.expected(number)
        times.append(time.perf_counter() - began)
    # Bounded, and not by the length of the run; the machine may be busy.
    assert sorted(times)[len(times) // 2] < 0.05


async def test_the_history_of_a_node_or_a_scope_comes_in_pages(store: Store, run_id: str) -> None:
    run_id = await accepted(store, run_id, {})
    history = History({})
    for number in range(1, 31):
        scope = "sub#1" if number % 2 else ""
        history.commit(history.views[number - 1], StateDiff((SetKey("k", number),)), scope=scope)
    await history.store(store, run_id)

    async def numbers(scope: str | None = None, node: str | None = None, limit: int = 4) -> list[int]:
        found: list[CommitRecord] = []
        page: Page[CommitRecord] | None = None
        while page is None or page.next_cursor:
            cursor = page.next_cursor if page else None
            page = await store.history(run_id, scope=scope, node=node, cursor=cursor, limit=limit)
            assert len(page.items) <= limit
            found += page.items
        assert found == [commit for commit in await store.commits(run_id) if commit in found]
        return [commit.number for commit in found]

    every = range(1, 31)
    assert await numbers() == list(every)
    assert await numbers(scope="") == [n for n in every if n % 2 == 0]
    assert await numbers(node="n1") == [n for n in every if n % 3 == 1]
    assert await numbers(scope="sub#1", node="n0", limit=100) == [n for n in every if n % 2 and n % 3 == 0]
    assert await numbers(node="nobody") == []
    for cursor in ("bm9uc2Vuc2U", "Y29tbWl0czp4", "Y29tbWl0czotMQ"):
        with pytest.raises(InvalidInput):
            await store.history(run_id, cursor=cursor)
