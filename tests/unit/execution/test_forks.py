"""Runs that are forked at a checkpoint of another, or resumed where another failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.execution.forking import IMAGE, NOTHING, changing, edit, world
from tests.unit.model.graphs import graph_of, mapped, subgraph, waiting

from sandgraph.errors import Conflict, InvalidInput, NotFound
from sandgraph.model.graph import Condition, Graph, Node, NodeType, OnError
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry
from sandgraph.model.run import RunStatus
from sandgraph.model.state import StateDiff
from sandgraph.store.records import CodeKind

pytestmark = pytest.mark.anyio

CHAIN = graph_of("start>a a>b b>end")
ADDS = "state['n'] = state.get('n', 0) + 1"


def conditional(graph: Graph, **conditions: str) -> Graph:
    """Let an edge ask an expression, by its ends: ``a_b="state['n'] > 1"``."""
    edges = (
        replace(edge, condition=Condition(conditions.get(f"{edge.source}_{edge.target}", "True")))
        if edge.condition
        else edge
        for edge in graph.edges
    )
    return replace(graph, edges=tuple(edges))


# Forks


async def test_a_fork_goes_on_behind_its_checkpoint(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = time.time_ns()", b="state['b'] = 1")
        old = await at.ended(await at.begun(CHAIN, x=1))
        new = await at.ended(await at.forked(old.run_id, 1))
        assert new.final_state == old.final_state
        assert (new.forked_from, new.image, new.graph_id) == (old.run_id, IMAGE, old.graph_id)
        assert (await at.attempts(new.run_id))["a"] == ["succeeded"]
        assert [(c.number, c.parents, c.node) for c in await at.store.commits(new.run_id)] == [
            (1, (0,), "a"),
            (2, (1,), "b"),
        ]
        # Nothing happened to the other one.
        assert await at.store.run(old.run_id) == old
        assert old.forked_from is None


async def test_a_fork_over_another_state_is_seen_by_who_descends_from_it(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1; state['gone'] = 1", b="state['b'] = state['a'] + state['x']")
        old = await at.begun(CHAIN, x=1)
        await at.ended(old)
        new = await at.ended(await at.forked(old, 1, changing("gone", "never", a=10, x=5)))
        assert new.final_state == {"x": 5, "a": 10, "b": 15}
        assert (await at.store.state(new.run_id, 0))[1].data == {"x": 1}
        assert (await at.store.state(new.run_id, 1))[1].data == {"x": 5, "a": 10}


async def test_a_fork_at_the_initial_state_runs_all_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = state['x']", b="state['b'] = 1")
        old = await at.begun(CHAIN, x=1, old=1)
        await at.ended(old)
        made, _ = await at.runs.fork(old, 0, changing("old", x=2), latest=False, idempotency_key=None)
        assert made.initial_state == {"x": 2}
        new = await at.ended(made.run_id)
        assert new.final_state == {"x": 2, "a": 2, "b": 1}
        assert (new.forked_from, new.forked_at) == (old, 0)
        assert (await at.attempts(new.run_id)) == {"a": ["succeeded"], "b": ["succeeded"]}


async def test_a_fork_takes_another_edge_because_of_a_changed_state(tmp_path: Path) -> None:
    graph = conditional(graph_of("start>a a>b? a>c! b>end c>end"), a_b="state['n'] > 1")
    async with world(tmp_path) as at:
        await at.knows(a="state['n'] = 1", b="state['went'] = 'b'", c="state['went'] = 'c'")
        old = await at.ended(await at.begun(graph))
        assert old.final_state == {"n": 1, "went": "c"}
        new = await at.ended(await at.forked(old.run_id, 1, changing(n=2)))
        assert new.final_state == {"n": 2, "went": "b"}
        # The function did not run again: only what is behind it was asked.
        assert len(await at.store.commits(new.run_id)) == 2
        same = await at.ended(await at.forked(old.run_id, 1))
        assert same.final_state == {"n": 1, "went": "c"}


async def test_a_fork_in_a_loop_counts_its_iterations_on(tmp_path: Path) -> None:
    looping = Node("l", NodeType.LOOP, function="l", condition=Condition("state['n'] < 6"), max_iterations=10)
    async with world(tmp_path) as at:
        await at.knows(l=ADDS)
        old = await at.ended(await at.begun(graph_of("start>l l>end", looping), n=0))
        assert (old.final_state, old.last_commit) == ({"n": 6}, 6)
        new = await at.ended(await at.forked(old.run_id, 3))
        assert (new.final_state, new.last_commit) == ({"n": 6}, 6)
        shorter = await at.ended(await at.forked(old.run_id, 3, changing(n=5)))
        assert (shorter.final_state, shorter.last_commit) == ({"n": 6}, 4)
        assert sorted(await at.attempts(shorter.run_id)) == ["l", "l#2", "l#3", "l#4"]
        over = await at.ended(await at.forked(old.run_id, 3, changing(n=9)))
        assert (over.final_state, over.last_commit) == ({"n": 9}, 3)


async def test_a_fork_with_parallel_branches_in_flight_makes_them_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(
            a="state['a'] = 1",
            b="time.sleep(0.3); state['b'] = 1",
            c="state['c'] = state['a'] + state['x']",
            j="state['j'] = 1",
        )
        old = await at.ended(await at.begun(graph_of("start>a start>b a>c b>j c>j j>end"), x=0))
        assert [commit.node for commit in await at.store.commits(old.run_id)] == ["a", "c", "b", "j"]
        new = await at.ended(await at.forked(old.run_id, 1, changing(x=5)))
        assert new.final_state == {"a": 1, "b": 1, "c": 6, "j": 1, "x": 5}
        attempts = await at.attempts(new.run_id)
        assert (attempts["a"], attempts["b"], attempts["c"]) == (
            ["succeeded"],
            ["lost", "succeeded"],
            ["lost", "succeeded"],
        )


async def test_a_run_in_flight_can_be_forked(tmp_path: Path) -> None:
    graph = graph_of("start>a a>w w>b b>end", waiting("w"))
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = state['a']")
        old = await at.begun(graph)
        await at.waits(old)
        new = await at.forked(old, 1, changing(a=7))
        await at.runs.send_event(new, "go", "new", None)
        assert (await at.ended(new)).final_state == {"a": 7, "go": "new", "b": 7}
        assert (await at.store.run_summary(old)).status is RunStatus.WAITING
        await at.runs.send_event(old, "go", "old", None)
        assert (await at.ended(old)).final_state == {"a": 1, "go": "old", "b": 1}


async def test_a_fork_of_a_fork(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = state['a']", c="state['c'] = state['b']")
        run_id = await at.begun(graph_of("start>a a>b b>c c>end"))
        await at.ended(run_id)
        first = await at.forked(run_id, 1, changing(a=2))
        await at.ended(first)
        second = await at.ended(await at.forked(first, 2, changing(x=1)))
        assert second.final_state == {"a": 2, "b": 2, "c": 2, "x": 1}
        assert second.forked_from == first
        third = await at.ended(await at.forked(second.run_id, 1))
        assert third.final_state == {"a": 2, "b": 2, "c": 2}


async def test_a_fork_behind_a_retry(tmp_path: Path) -> None:
    retried = Node("a", function="a", retry=Retry(max_attempts=3, initial_s=0.0, jitter=False))
    async with world(tmp_path) as at:
        await at.knows(a="assert state.attempt > 1; state['a'] = 1", b="state['b'] = 1")
        old = await at.ended(await at.begun(graph_of("start>a a>b b>end", retried)))
        assert (await at.attempts(old.run_id))["a"] == ["error", "succeeded"]
        new = await at.ended(await at.forked(old.run_id, 1, changing(x=1)))
        assert new.final_state == {"a": 1, "b": 1, "x": 1}
        again = await at.ended(await at.forked(new.run_id, 1))
        assert again.final_state == {"a": 1, "b": 1, "x": 1}


async def test_what_was_received_before_a_fork_is_kept(tmp_path: Path) -> None:
    graph = graph_of("start>a a>w w>b b>end", waiting("w"))
    async with world(tmp_path) as at:
        await at.knows(a="time.sleep(0.2)", b="state['b'] = state['go']")
        old = await at.begun(graph)
        await at.runs.send_event(old, "go", 5, "e-1")
        await at.ended(old)
        new = await at.ended(await at.forked(old, 1))
        assert new.final_state == {"go": 5, "b": 5}


async def test_a_paused_run_is_forked_as_one_that_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="time.sleep(0.3); state['a'] = 1", b="state['b'] = 1")
        old = await at.begun(CHAIN)
        await at.runs.pause(old)
        await at.committed(old)
        new = await at.ended(await at.forked(old, 1))
        assert (new.final_state, new.paused) == ({"a": 1, "b": 1}, False)
        assert (await at.store.run_summary(old)).paused is True


async def test_a_map_may_be_forked_at_but_not_changed(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.store.save_code(CodeKind.FUNCTION, "m", "def m(item, state):\n    return item * 2\n")
        await at.knows(b="state['b'] = state['results']")
        old = await at.begun(graph_of("start>m m>b b>end", mapped("m")), items=[1, 2, 3])
        await at.ended(old)
        new = await at.ended(await at.forked(old, 1))
        assert new.final_state == {"items": [1, 2, 3], "results": [2, 4, 6], "b": [2, 4, 6]}
        assert [len(tries) for tries in (await at.attempts(new.run_id)).values()] == [1, 1, 1, 2]
        with pytest.raises(Conflict) as refused:
            await at.forked(old, 1, changing(results=[]))
        assert refused.value.code == "commit_not_amendable"


async def test_a_fork_inside_a_subgraph(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = state['a']", c="state['c'] = state['b']")
        inner = await at.saved(graph_of("start>a a>b b>end"))
        old = await at.ended(await at.begun(graph_of("start>s s>c c>end", subgraph("s", inner))))
        assert [(commit.scope, commit.node) for commit in await at.store.commits(old.run_id)] == [
            ("s#1", "a"),
            ("s#1", "b"),
            ("", "s"),
            ("", "c"),
        ]
        new = await at.ended(await at.forked(old.run_id, 1, changing(a=3)))
        assert new.final_state == {"a": 3, "b": 3, "c": 3}
        with pytest.raises(Conflict) as refused:
            await at.forked(old.run_id, 3, changing(a=3))
        assert refused.value.code == "commit_not_amendable"


async def test_a_changed_key_with_a_reducer_is_reduced_anew(tmp_path: Path) -> None:
    graph = replace(graph_of("start>a start>b a>j b>j j>end"), reducers=(("log", Reducer.EXTEND),))
    async with world(tmp_path) as at:
        await at.knows(
            a="state['log'] = [*state['log'], 'a']",
            b="time.sleep(0.3); state['log'] = [*state['log'], 'b']",
            j="pass",
        )
        old = await at.ended(await at.begun(graph, log=[]))
        assert old.final_state == {"log": ["a", "b"]}
        new = await at.ended(await at.forked(old.run_id, 1, changing(log=["x", "y"])))
        assert new.final_state == {"log": ["x", "y", "b"]}


async def test_a_fork_pins_what_the_other_run_pinned_or_the_latest(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = 'old'")
        old = await at.begun(CHAIN)
        await at.ended(old)
        await at.knows(b="state['b'] = 'new'")
        await at.store.save_code(CodeKind.TOOL, "t", "def t(): return 1", "")
        pinned = await at.ended(await at.forked(old, 1))
        assert pinned.final_state == {"a": 1, "b": "old"}
        assert await at.store.run_code(pinned.run_id) == await at.store.run_code(old)
        latest = await at.ended(await at.forked(old, 1, latest=True))
        assert latest.final_state == {"a": 1, "b": "new"}
        functions, tools = await at.store.run_code(latest.run_id)
        assert (functions["a"].version, functions["b"].version, list(tools)) == (1, 2, ["t"])


async def test_the_latest_functions_are_those_of_nested_graphs_too(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = 'old'")
        inner = await at.saved(graph_of("start>b b>end"))
        old = await at.begun(graph_of("start>a a>s s>end", subgraph("s", inner)))
        await at.ended(old)
        await at.knows(b="state['b'] = 'new'")
        assert (await at.ended(await at.forked(old, 1, latest=True))).final_state == {"a": 1, "b": "new"}
        assert (await at.ended(await at.forked(old, 1))).final_state == {"a": 1, "b": "old"}


async def test_with_the_latest_functions_conditions_are_asked_anew(tmp_path: Path) -> None:
    asks = graph_of("start>a a>b? a>c! b>end c>end")
    edges = tuple(replace(edge, condition=edge.condition and Condition(function="asks")) for edge in asks.edges)
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="state['went'] = 'b'", c="state['went'] = 'c'", asks="return False")
        old = await at.ended(await at.begun(replace(asks, edges=edges)))
        assert old.final_state == {"went": "c"}
        await at.knows(asks="return True")
        assert (await at.ended(await at.forked(old.run_id, 1))).final_state == {"went": "c"}
        assert (await at.ended(await at.forked(old.run_id, 1, latest=True))).final_state == {"went": "b"}


async def test_a_key_makes_one_fork(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = 1")
        old = await at.begun(CHAIN)
        await at.ended(old)
        first, is_new = await at.runs.fork(old, 1, changing(x=1), latest=False, idempotency_key="k")
        again = await at.runs.fork(old, 1, changing(x=1), latest=False, idempotency_key="k")
        assert (is_new, again[0].run_id, again[1]) == (True, first.run_id, False)
        await at.ended(first.run_id)
        for at_, changes, latest in [(0, changing(x=1), False), (1, changing(x=True), False), (1, changing(x=1), True)]:
            with pytest.raises(Conflict) as refused:
                await at.runs.fork(old, at_, changes, latest=latest, idempotency_key="k")
            assert refused.value.code == "idempotency_key_reused"


@pytest.mark.parametrize("number", [3, 10**30, -1])
async def test_there_is_nothing_to_fork_beyond_the_last_commit(tmp_path: Path, number: int) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="pass")
        old = await at.begun(CHAIN)
        await at.ended(old)
        with pytest.raises(NotFound) as missing:
            await at.forked(old, number)
        assert missing.value.code == "checkpoint_not_found"
        with pytest.raises(NotFound):
            await at.forked("run_0", 0)


async def test_there_is_nothing_left_behind_the_commit_that_ended_a_run(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="pass")
        old = await at.begun(CHAIN)
        await at.ended(old)
        with pytest.raises(Conflict) as refused:
            await at.forked(old, 2)
        assert refused.value.code == "nothing_left"
        assert await at.store.count_runs() == 1


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (changing(x="x" * 1100), "state_too_large"),
        (changing(**{f"k{n}": n for n in range(6)}), "too_many_keys"),
        (changing(x=list(range(30))), "too_many_values"),
    ],
)
async def test_a_changed_state_has_the_bounds_of_a_state(
    tmp_path: Path, number: int, changes: StateDiff, code: str
) -> None:
    async with world(tmp_path, max_state_kb=1, max_state_keys=5, max_state_values=20) as at:
        await at.knows(a="pass", b="pass")
        old = await at.begun(CHAIN)
        await at.ended(old)
        with pytest.raises(InvalidInput) as refused:
            await at.forked(old, number, changes)
        assert [(each.path, each.code) for each in refused.value.problems] == [("state", code)]
        assert await at.store.count_runs() == 1


async def test_a_run_whose_events_were_not_stored_cannot_be_forked_but_at_its_beginning(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="raise ValueError")
        old = await at.begun(CHAIN)
        await at.ended(old, RunStatus.FAILED)
        edit(tmp_path, "DELETE FROM run_event")
        for going_on in (at.forked(old, 1), at.resumed(old)):
            with pytest.raises(Conflict) as refused:
                await going_on
            assert refused.value.code == "not_recoverable"
        await at.knows(b="pass")
        assert (await at.ended(await at.forked(old, 0, latest=True))).final_state == {"a": 1}


# Resumptions


async def test_resume_keeps_completed_siblings(tmp_path: Path) -> None:
    graph = graph_of("start>a start>b start>c a>j b>j c>j j>end")
    async with world(tmp_path) as at:
        await at.knows(
            a="state['a'] = time.time_ns()",
            b="time.sleep(0.3); state['ok']; state['b'] = 1",
            c="time.sleep(0.6); state['c'] = 1",
            j="pass",
        )
        old = await at.ended(await at.begun(graph), RunStatus.FAILED)
        kept = (await at.store.commit(old.run_id, 1)).diff
        await at.knows(b="state['b'] = 1", c="state['c'] = 1")
        new = await at.ended(await at.resumed(old.run_id, latest=True))
        assert (new.forked_from, new.final_state) == (old.run_id, {**kept.apply({}), "b": 1, "c": 1})
        assert await at.attempts(new.run_id) == {
            "a": ["succeeded"],
            "b": ["lost", "succeeded"],
            "c": ["lost", "succeeded"],
            "j": ["succeeded"],
        }
        assert await at.store.run(old.run_id) == old


async def test_resume_keeps_completed_siblings_where_a_run_finishes_what_it_can(tmp_path: Path) -> None:
    graph = replace(graph_of("start>a start>b b>c a>j c>j j>end"), on_error=OnError.FINISH)
    async with world(tmp_path) as at:
        await at.knows(
            a="state['ok']; state['a'] = 1", b="time.sleep(0.3); state['b'] = time.time_ns()", c="pass", j="pass"
        )
        old = await at.ended(await at.begun(graph), RunStatus.FAILED)
        b = (await at.store.state(old.run_id, None))[1].data["b"]
        await at.knows(a="state['a'] = 1")
        new = await at.ended(await at.resumed(old.run_id, latest=True))
        assert new.final_state == {"a": 1, "b": b}


async def test_resume_with_the_functions_of_then_fails_again(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="raise ValueError('no')")
        old = await at.ended(await at.begun(CHAIN), RunStatus.FAILED)
        await at.knows(b="pass")
        new = await at.ended(await at.resumed(old.run_id), RunStatus.FAILED)
        assert (new.failure, new.last_commit) == (old.failure, 1)


async def test_what_is_resumed_has_all_its_retries(tmp_path: Path) -> None:
    retried = Node("b", function="b", retry=Retry(max_attempts=2, initial_s=0.0, jitter=False))
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="raise ValueError('no')")
        old = await at.ended(await at.begun(graph_of("start>a a>b b>end", retried)), RunStatus.FAILED)
        new = await at.ended(await at.resumed(old.run_id), RunStatus.FAILED)
        assert (await at.attempts(new.run_id))["b"] == ["error", "lost", "error", "error"]
        await at.knows(b="pass")
        assert (await at.ended(await at.resumed(new.run_id, latest=True))).final_state == {"a": 1}


async def test_a_cancelled_run_is_resumed(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="time.sleep(0.5); state['b'] = 1")
        old = await at.begun(CHAIN)
        await at.committed(old)
        await at.runs.cancel(old)
        new = await at.ended(await at.resumed(old))
        assert new.final_state == {"a": 1, "b": 1}


async def test_a_run_that_was_cancelled_before_it_began_is_resumed_from_its_beginning(tmp_path: Path) -> None:
    async with world(tmp_path, max_active_runs=1) as at:
        await at.knows(a="time.sleep(0.5); state['a'] = 1", b="state['b'] = 1")
        first, second = await at.begun(CHAIN), await at.begun(CHAIN, x=1)
        await at.runs.cancel(second)
        new = await at.ended(await at.resumed(second))
        assert (new.final_state, new.forked_from, new.forked_at) == ({"a": 1, "b": 1, "x": 1}, second, 0)
        await at.ended(first)


async def test_a_run_that_was_interrupted_for_good_is_resumed(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="time.sleep(0.5); state['b'] = 1")
        old = await at.begun(CHAIN)
        await at.committed(old)
    async with world(tmp_path, resume_runs=False) as at:
        assert (await at.store.run(old)).status is RunStatus.INTERRUPTED
        new = await at.ended(await at.resumed(old))
        assert new.final_state == {"a": 1, "b": 1}


async def test_what_failed_inside_a_subgraph_is_resumed_there(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = time.time_ns()", b="raise ValueError", c="state['c'] = 1")
        inner = await at.saved(graph_of("start>a a>b b>end"))
        old = await at.begun(graph_of("start>s s>c c>end", subgraph("s", inner)))
        await at.ended(old, RunStatus.FAILED)
        a = (await at.store.state(old, 1))[1].data["a"]
        await at.knows(b="state['b'] = 1")
        new = await at.ended(await at.resumed(old, latest=True))
        assert new.final_state == {"a": a, "b": 1, "c": 1}


async def test_items_of_a_map_that_are_done_are_not_made_again(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        code = "import time\ndef m(item, state):\n    if item == 2: {}\n    return time.time_ns()\n"
        await at.store.save_code(CodeKind.FUNCTION, "m", code.format("raise ValueError(item)"))
        graph = replace(graph_of("start>m m>end", mapped("m", 3)), on_error=OnError.FINISH)
        old = await at.begun(graph, items=[1, 2, 3])
        await at.ended(old, RunStatus.FAILED)
        await at.store.save_code(CodeKind.FUNCTION, "m", code.format("pass"))
        new = await at.ended(await at.resumed(old, latest=True))
        told = await at.store.run_events(old, limit=100)
        done = [each.document["value"] for each in told if each.document["type"] == "succeeded"]
        results = new.final_state["results"] if new.final_state else None
        assert isinstance(results, list)
        assert sorted(map(str, (results[0], results[2]))) == sorted(map(str, done))


async def test_only_what_ended_without_completing_is_resumed(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="time.sleep(0.3)")
        old = await at.begun(CHAIN)
        with pytest.raises(Conflict) as refused:
            await at.resumed(old)
        assert refused.value.code == "run_not_finished"
        await at.ended(old)
        with pytest.raises(Conflict) as refused:
            await at.resumed(old)
        assert refused.value.code == "run_already_finished"
        with pytest.raises(NotFound):
            await at.resumed("run_0")


async def test_a_key_makes_one_resumption(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="raise ValueError")
        old = await at.begun(CHAIN)
        await at.ended(old, RunStatus.FAILED)
        first, _ = await at.runs.resume(old, latest=False, idempotency_key="k")
        again, is_new = await at.runs.resume(old, latest=False, idempotency_key="k")
        assert (again.run_id, is_new) == (first.run_id, False)
        for going_on in (
            at.runs.resume(old, latest=True, idempotency_key="k"),
            at.runs.fork(old, 1, NOTHING, latest=False, idempotency_key="k"),
        ):
            with pytest.raises(Conflict) as refused:
                await going_on
            assert refused.value.code == "idempotency_key_reused"
        await at.ended(first.run_id, RunStatus.FAILED)


async def test_a_resumption_of_a_resumption(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="raise ValueError")
        run_id = await at.begun(CHAIN)
        for _ in range(3):
            await at.ended(run_id, RunStatus.FAILED)
            run_id = await at.resumed(run_id)
        await at.ended(run_id, RunStatus.FAILED)
        assert (await at.attempts(run_id))["b"] == ["lost", "lost", "lost", "error"]
        await at.knows(b="pass")
        assert (await at.ended(await at.resumed(run_id, latest=True))).final_state == {"a": 1}


# What is kept of them


@pytest.mark.parametrize("how", ["fork", "resume"])
async def test_where_a_run_was_forked_is_told_as_the_number_of_a_checkpoint(tmp_path: Path, how: str) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = 1", c="raise ValueError")
        old = await at.begun(graph_of("start>a a>b b>c c>end"))
        await at.ended(old, RunStatus.FAILED)
        new = await (at.forked(old, 2) if how == "fork" else at.resumed(old))
        run = await at.ended(new, RunStatus.FAILED)
        assert (run.forked_from, run.forked_at) == (old, 2)


async def test_a_fork_survives_the_end_of_its_platform(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="time.sleep(0.4); state['b'] = state['a']")
        old = await at.begun(CHAIN)
        await at.ended(old)
        new = await at.forked(old, 1, changing(a=2))
    async with world(tmp_path) as at:
        assert (await at.ended(new)).final_state == {"a": 2, "b": 2}
        assert (await at.store.run(old)).final_state == {"a": 1, "b": 1}


async def test_a_fork_waits_for_its_turn_over_the_end_of_its_platform(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = state['a']", s="time.sleep(0.5)")
        old = await at.begun(CHAIN)
        await at.ended(old)
    async with world(tmp_path, max_active_runs=1) as at:
        await at.begun(graph_of("start>s s>end"))
        new, other = await at.forked(old, 1, changing(a=2)), await at.forked(old, 0)
        for run_id in (new, other):
            assert await at.runs.place(run_id) is not None
    async with world(tmp_path) as at:
        assert (await at.ended(new)).final_state == {"a": 2, "b": 2}
        assert (await at.ended(other)).final_state == {"a": 1, "b": 1}


async def test_a_fork_that_waits_for_its_turn_can_be_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="pass", s="time.sleep(0.5)")
        old = await at.begun(CHAIN)
        await at.ended(old)
    async with world(tmp_path, max_active_runs=1) as at:
        first = await at.begun(graph_of("start>s s>end"))
        new = await at.forked(old, 1)
        assert (await at.runs.cancel(new)).status is RunStatus.CANCELLED
        assert (await at.store.state(new, None))[1].data == {"a": 1}
        await at.ended(first)
        assert (await at.ended(await at.resumed(new))).final_state == {"a": 1}
