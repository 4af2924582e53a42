"""States of runs, and who wrote what is in them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from effort import part_of
from tests.unit.execution.forking import World, changing, edit, world
from tests.unit.model.graphs import graph_of, mapped, subgraph, waiting
from tests.unit.model.playbook import key_of
from tests.unit.store.test_checkpoints import History

from sandgraph.errors import NotFound
from sandgraph.execution import plans
from sandgraph.execution.checkpoints import read_past, read_told
from sandgraph.model.commands import RecordRun
from sandgraph.model.history import state_so_far
from sandgraph.model.reducers import Reducer
from sandgraph.model.replay import Past
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json, State
from sandgraph.store.records import CodeKind, RunState, Writer
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

BRANCHES = graph_of("start>a start>b a>j b>j j>k k>end")


async def state(at: World, run_id: str, number: int | None = None) -> RunState:
    return (await at.store.state(run_id, number))[1]


def by(commit: int, name: str, attempt: int | None = 1) -> Writer:
    return Writer(commit, key_of(name), attempt)


async def test_who_wrote_a_key_is_told_of_every_checkpoint(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(
            a="state['a'] = 1; state['x'] = 2",
            b="time.sleep(0.3); state['b'] = 1; del state['old']",
            j="state['a'] = state['b'] + 1",
            k="pass",
        )
        run_id = await at.begun(BRANCHES, x=1, old=1, kept=1)
        await at.ended(run_id)
        first, second, third = Writer(0), by(1, "a"), by(2, "b")
        assert await state(at, run_id, 0) == RunState(
            {"x": 1, "old": 1, "kept": 1}, 0, (), {"x": first, "old": first, "kept": first}
        )
        assert (await state(at, run_id, 1)).writers == {"a": second, "x": second, "old": first, "kept": first}
        # The other branch did not see it.
        assert await state(at, run_id, 2) == RunState(
            {"x": 1, "b": 1, "kept": 1}, 2, (), {"x": first, "b": third, "kept": first}
        )
        joined = {"a": by(3, "j"), "x": second, "b": third, "kept": first}
        assert await state(at, run_id, 3) == RunState({"a": 2, "x": 2, "b": 1, "kept": 1}, 3, (), joined)
        final = RunState({"a": 2, "x": 2, "b": 1, "kept": 1}, 4, (), joined)
        assert await state(at, run_id, 4) == final
        assert await state(at, run_id) == final


@pytest.mark.parametrize("number", [2, 10**30, -1])
async def test_there_are_no_states_of_what_was_not_committed(tmp_path: Path, number: int) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass")
        run_id = await at.begun(graph_of("start>a a>end"))
        await at.ended(run_id)
        for missing in (run_id, "run_0"):
            with pytest.raises(NotFound):
                await state(at, missing, number)
        with pytest.raises(NotFound):
            await state(at, "run_0")


async def test_two_ends_are_one_state_with_the_writers_of_both(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="time.sleep(0.2); state['b'] = 1")
        run = await at.ended(await at.begun(graph_of("start>a start>b a>end_one b>end_two")))
        assert await state(at, run.run_id) == RunState({"a": 1, "b": 1}, 2, (), {"a": by(1, "a"), "b": by(2, "b")})


async def test_of_a_run_in_flight_it_is_what_all_branches_did(tmp_path: Path) -> None:
    graph = graph_of("start>a start>b a>w b>w w>end", waiting("w"))
    async with world(tmp_path) as at:
        await at.knows(a="state['x'] = 1; state['a'] = 1", b="time.sleep(0.2); state['b'] = 1")
        run_id = await at.begun(graph, x=0)
        await at.waits(run_id)
        writers = {"x": by(1, "a"), "a": by(1, "a"), "b": by(2, "b")}
        assert await state(at, run_id) == RunState({"x": 1, "a": 1, "b": 1}, 2, (), writers)
        await at.runs.send_event(run_id, "go", 5, None)
        await at.ended(run_id)
        assert (await state(at, run_id)).writers == {**writers, "go": by(3, "w", None)}


async def test_branches_in_flight_that_disagree_are_told(tmp_path: Path) -> None:
    graph = graph_of("start>a start>b a>v b>w v>end_v w>end_w", waiting("v"), waiting("w", "never"))
    async with world(tmp_path) as at:
        await at.knows(a="state['x'] = 1", b="time.sleep(0.2); state['x'] = 2")
        run_id = await at.begun(graph)
        await at.waits(run_id)
        assert await state(at, run_id) == RunState({"x": 2}, 2, ("x",), {"x": by(2, "b")})


async def test_what_is_inside_a_subgraph_is_seen_outside_once_it_ends(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['in'] = 1; state['x'] = 2")
        inner = await at.saved(graph_of("start>a a>w w>end", waiting("w")))
        run_id = await at.begun(graph_of("start>s s>end", subgraph("s", inner)), x=1)
        await at.waits(run_id)
        assert await state(at, run_id) == RunState({"x": 1}, 1, (), {"x": Writer(0)})
        assert await state(at, run_id, 1) == RunState(
            {"x": 2, "in": 1}, 1, (), {"x": by(1, "s#1/a"), "in": by(1, "s#1/a")}
        )
        await at.runs.send_event(run_id, "go", 5, None)
        await at.ended(run_id)
        assert (await state(at, run_id)).writers == dict.fromkeys(["x", "in", "go"], by(3, "s", None))


async def test_a_map_wrote_its_results_as_a_whole(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.store.save_code(CodeKind.FUNCTION, "m", "def m(item, state):\n    return item\n")
        run_id = await at.begun(graph_of("start>m m>end", mapped("m")), items=[1])
        await at.ended(run_id)
        assert (await state(at, run_id)).writers == {"items": Writer(0), "results": by(1, "m", None)}


async def test_of_a_reduced_key_it_is_who_reduced_it_last(tmp_path: Path) -> None:
    graph = replace(BRANCHES, reducers=(("n", Reducer.ADD),))
    async with world(tmp_path) as at:
        await at.knows(a="state['n'] += 1", b="time.sleep(0.3); state['n'] += 2", j="pass", k="pass")
        run_id = await at.begun(graph, n=1)
        await at.ended(run_id)
        assert await state(at, run_id) == RunState({"n": 4}, 4, (), {"n": by(2, "b")})


@pytest.mark.parametrize("keys", [3, 70, 200])
async def test_many_keys_have_many_writers(tmp_path: Path, keys: int) -> None:
    names = [f"n{number}" for number in range(keys)]
    graph = graph_of(" ".join(f"{one}>{two}" for one, two in pairwise(["start", *names, "end"])))
    async with world(tmp_path) as at:
        await at.knows(**{name: f"state['{name}'] = 1" for name in names})
        run_id = await at.begun(graph)
        await at.ended(run_id)
        expected = {name: by(number, name) for number, name in enumerate(names, 1)}
        assert (await state(at, run_id)).writers == expected
        assert (await state(at, run_id, 2)).writers == {name: expected[name] for name in names[:2]}


async def test_a_run_that_failed_has_the_state_of_what_was_committed(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="raise ValueError")
        run_id = await at.begun(graph_of("start>a a>b b>end"), x=1)
        await at.ended(run_id, RunStatus.FAILED)
        assert await state(at, run_id) == RunState({"x": 1, "a": 1}, 1, (), {"x": Writer(0), "a": by(1, "a")})


async def test_a_fork_has_writers_of_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = 1")
        old = await at.begun(graph_of("start>a a>b b>end"))
        await at.ended(old)
        new = await at.forked(old, 1, changing(x=1))
        await at.ended(new)
        assert (await state(at, new)).writers == {"a": by(1, "a"), "x": by(1, "a"), "b": by(2, "b", 2)}


# Runs that are made again


async def test_what_a_run_was_told_is_read_in_parts(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(100)]
    edges = " ".join(f"{one}>{two}" for one, two in pairwise(["start", *names, "w"]))
    graph = graph_of(edges, waiting("w"))
    async with world(tmp_path) as at:
        await at.knows(**dict.fromkeys(names, "state['n'] = state.get('n', 0) + 1"))
        run_id = await at.begun(graph)
        await at.waits(run_id)
        record = await at.store.run(run_id)
        parts = [part async for part in read_told(at.store, record)]
        assert len(parts) > 1
        told = [each for part in parts for each in part]
        assert [each.commit for each in told] == [None, *range(1, 101)]
        fresh = Past(plans.fresh(await plans.load_plan(at.store, record)))
        past = await read_past(at.store, record, fresh)
        assert (past.number, past.run.commits, past.run.status) == (101, 100, RunStatus.WAITING)
        assert past.run.latest == {"n": 100}


async def test_what_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1")
        run_id = await at.begun(graph_of("start>a a>w w>end", waiting("w")))
        await at.waits(run_id)
        edit(tmp_path, "UPDATE run SET last_commit = 2")
        record = await at.store.run(run_id)
        fresh = Past(plans.fresh(await plans.load_plan(at.store, record)))
        with pytest.raises(ValueError, match="after 2 events it is waiting at commit 1"):
            await read_past(at.store, record, fresh)
        edit(tmp_path, "UPDATE run_event SET document = '{}' WHERE number = 2")
        with pytest.raises(ValueError, match="no document of an event"):
            await read_past(at.store, record, fresh)


# As it is made of all commits there are


def of_all(initial: State, history: History) -> RunState:
    """Return the state by now as every commit of the run's own graph, one after the other, tells it."""
    commits = [each for each in history.commits if not each.key.scope]
    data, conflicts = state_so_far(initial, commits)
    latest = {op.key: each for each in commits for op in each.diff.ops}
    writers = {
        key: Writer(latest[key].number, latest[key].key, latest[key].attempt) if key in latest else Writer(0)
        for key in data
    }
    return RunState(data, len(history.commits), tuple(dict.fromkeys(each.key for each in conflicts)), writers)


async def stored(store: Store, history: History, initial: dict[str, Json]) -> str:
    version, _ = await store.save_graph(graph_of("start>a a>end"))
    run, _ = await store.create_run(version, initial, functions={}, tools={}, image="image")
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
    await history.store(store, run.run_id)
    return run.run_id


@pytest.mark.parametrize("seed", range(part_of(12)))
async def test_the_state_by_now_is_that_of_all_commits(tmp_path: Path, seed: int) -> None:
    initial: dict[str, Json] = {"old": 1, "sum": 0, "kept": 2}
    history, random = History(initial, seed), Random(seed)
    aside = history.views[0]
    if seed % 3:
        # A branch that ends early, and that nothing meets.
        for number in range(seed % 3):
            aside = history.commit(aside, changing(aside=number, **({"00": seed} if seed % 2 else {})))
    tips = [history.views[0 if seed % 4 else len(history.commits)]]
    store = await Store.open(tmp_path)
    try:
        for length in (0, 1, 5, 20, random.randrange(100, 300)):
            for _ in range(length):
                history.grow(tips)
            if random.random() < 0.5:
                history.commit(tips[0].inside(None), changing(inner=length), scope="sub#1")
            run_id = await stored(store, history, initial)
            _, found = await store.state(run_id, None)
            expected = of_all(initial, history)
            # Of reductions that met, who was the last in the graph's order.
            writers = {**expected.writers, "sum": found.writers["sum"]}
            assert found == replace(expected, writers=writers)
    finally:
        await store.close()


@pytest.mark.parametrize("changes", [{}, {"k1": 1}, {"aside": 1}, {"k1": 1, "aside": 2}])
async def test_a_branch_that_is_left_behind_is_told_beside_a_long_one(tmp_path: Path, changes: dict[str, Json]) -> None:
    history = History({"k2": 0, "kept": 1})
    before = history.commit(history.views[0], changing("k2"))
    aside = history.commit(before, changing(**changes))
    history.commit(aside, changing(quote='"key":"k3"', **{'"': 1, "ü\x00": 2}))
    tip = before
    for number in range(200):
        tip = history.commit(tip, changing(**{f"k{number % 50}": number}))
    store = await Store.open(tmp_path)
    try:
        run_id = await stored(store, history, {"k2": 0, "kept": 1})
        _, found = await store.state(run_id, None)
        expected = of_all({"k2": 0, "kept": 1}, history)
        assert found == expected
        assert found.conflicts == (("k1",) if "k1" in changes else ())
    finally:
        await store.close()


@pytest.mark.parametrize(
    "edges", ["start>a start>b a>j b>j j>w w>end", "start>a start>b a>j b>j j>w start>c c>w w>end"]
)
async def test_what_met_is_as_it_was_merged(tmp_path: Path, edges: str) -> None:
    graph = replace(graph_of(edges, waiting("w")), reducers=(("log", Reducer.APPEND),))
    async with world(tmp_path) as at:
        await at.knows(
            a="time.sleep(0.3); state['log'].append('a')", b="state['log'].append('b')", j="state['j'] = 1", c="pass"
        )
        run_id = await at.begun(graph, log=[])
        await at.waits(run_id)
        assert (await state(at, run_id)).data["log"] == ["a", "b"]
