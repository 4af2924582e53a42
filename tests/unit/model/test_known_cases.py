"""What other engines were reported to get wrong, and what was promised of this one: a case each."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from tests.unit.model.graphs import graph_of, mapped, plain, subgraph, tried
from tests.unit.model.playbook import play, play_with

from sandgraph.model.graph import Node, OnError
from sandgraph.model.reducers import Reducer
from sandgraph.model.run import AttemptStatus, NodeRunStatus

CANCELLED, SUCCEEDED = NodeRunStatus.CANCELLED, NodeRunStatus.SUCCEEDED


@pytest.mark.parametrize(("takes_b", "ran"), [(True, {"b", "c"}), (False, {"c"})])
def test_a_join_whose_parent_was_skipped_starts_all_the_same(*, takes_b: bool, ran: set[str]) -> None:
    """LangGraph #3249: a node behind a branch that was not chosen never ran, and the run was called complete."""
    run = play(graph_of("start>a a>b? a>c b>j c>j j>end")).expects("a").succeeds("a", after=(takes_b,))
    run.expects(*sorted(ran))
    for name in sorted(ran):
        run.succeeds(name, {name: 1})
    run.expects("j").sees("j", **dict.fromkeys(ran, 1)).succeeds("j", {"j": 1}).completes(**dict.fromkeys(ran, 1), j=1)


@pytest.mark.parametrize("first", ["long", "short"])
def test_uneven_branches_that_meet_run_the_node_where_they_do_once(first: str) -> None:
    """LangGraph #7727: the node at the end of a short and a long branch ran once for each of them."""
    run = play(graph_of("start>a start>b a>c c>d d>j b>j j>k k>end")).expects("a", "b")
    if first == "short":
        run.succeeds("b", {"b": 1})
    run.succeeds("a").expects("c").succeeds("c").expects("d").succeeds("d", {"d": 1})
    if first == "long":
        run.succeeds("b", {"b": 1})
    run.expects("j").sees("j", b=1, d=1).succeeds("j").expects("k").succeeds("k").completes(b=1, d=1)
    assert sum(key.node == "j" for key in run.ledger.node_runs) == 1


def test_independent_branches_are_not_held_up_by_a_slow_one() -> None:
    """LangGraph #4979: each step of all branches waited for the slowest node of the step before."""
    run = play(graph_of("start>slow start>a slow>j a>b b>c c>j j>end")).expects("slow", "a")
    run.succeeds("a").expects("b").succeeds("b").expects("c").succeeds("c", {"c": 1}).works()
    run.succeeds("slow", {"slow": 1}).expects("j").sees("j", c=1, slow=1)


def test_independent_branches_are_not_held_up_by_a_slow_item_or_a_slow_subgraph() -> None:
    graph = graph_of("start>m start>s start>a m>end s>end a>b b>end", mapped("m"), subgraph("s"))
    run = play_with({"inner": graph_of("start>x x>end")}, graph, items=[1]).expects("m#1/m", "s#1/x", "a")
    run.succeeds("a").expects("b").succeeds("b").works()


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_writers_in_conflict_fail_the_run_in_every_order_and_are_named(order: tuple[str, ...]) -> None:
    run = play(graph_of("start>a start>b start>c a>j b>j c>j j>end")).expects("a", "b", "c")
    for name in order:
        run.succeeds(name, {"n": 1} if name in "ac" else {"m": 1})
    run.breaks("state_conflict", "'a' and 'c'", "'n'", "'j'", n=1, m=1)


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_with_a_reducer_they_come_together_in_the_graphs_order(order: tuple[str, ...]) -> None:
    graph = graph_of("start>a start>b start>c a>j b>j c>j j>end")
    run = play(replace(graph, reducers=(("log", Reducer.APPEND),)), log=[]).expects("a", "b", "c")
    for name in order:
        run.succeeds(name, {"log": [name]})
    run.expects("j").sees("j", log=["a", "b", "c"])


def test_a_map_with_failures_names_the_first_and_counts_the_others() -> None:
    graph = replace(graph_of("start>m m>end", mapped("m", 1)), on_error=OnError.FINISH)
    run = play(graph, items=[1, 2, 3]).expects("m#1/m").fails("m#1/m").expects("m#1/m#2").succeeds("m#1/m#2")
    run.expects("m#1/m#3").fails("m#1/m#3", AttemptStatus.OOM)
    run.breaks("error", "Item 0", "1 more item failed", items=[1, 2, 3])


def test_an_any_join_cancels_what_lost_whatever_it_is() -> None:
    graph = graph_of(
        "start>a start>b start>m start>s a>j b>j m>j s>j j>end", mapped("m"), subgraph("s"), Node("j", join=1)
    )
    run = play_with({"inner": graph_of("start>x x>end")}, graph, items=[1]).expects("a", "b", "m#1/m", "s#1/x")
    run.succeeds("b", {"b": 1}).completes(items=[1], b=1)
    run.has(CANCELLED, "a", "m", "m#1/m", "s", "s#1/x")


def test_nested_subgraphs_three_deep() -> None:
    inner = graph_of("start>x x>end")
    two = graph_of("start>s s>end", subgraph("s", "one"))
    three = graph_of("start>s s>end", subgraph("s", "two"))
    run = play_with({"one": inner, "two": two, "three": three}, graph_of("start>s s>end", subgraph("s", "three")), n=1)
    run.expects("s#1/s#1/s#1/x").sees("s#1/s#1/s#1/x", n=1).succeeds("s#1/s#1/s#1/x", {"n": 2}).completes(n=2)
    run.commits("s#1/s#1/s#1/x", "s#1/s#1/s", "s#1/s", "s")


def test_resume_keeps_completed_siblings_and_runs_only_what_failed() -> None:
    """What broke a branch for good is left out of the events that the new run is told: it is in progress there."""
    run = play(graph_of("start>a start>b a>j b>j j>end", tried("b", 2))).expects("a", "b").succeeds("a", {"a": 1})
    run.fails("b").reopens().expects("b/2").succeeds("b", {"b": 1}).expects("j").sees("j", a=1, b=1)
    assert sum(key.node == "a" for key, _ in run.ledger.attempts) == 1


def test_a_node_that_cannot_be_reached_is_never_called_success() -> None:
    run = play(graph_of("start>a a>b? a>c? b>end c>end")).expects("a").succeeds("a", after=(False, False))
    run.skips("b", "c", "end").breaks("end_not_reached", "'a'").has(SUCCEEDED, "start", "a")


def test_a_join_of_joins_never_waits_for_a_way_that_cannot_come() -> None:
    graph = graph_of("start>a a>b? a>c? b>d c>d c>e d>f e>f f>end a>end!", plain("d"), plain("e"), plain("f"))
    play(graph).expects("a").succeeds("a", after=(False, False)).skips("b", "c", "d", "e", "f").completes()
    play(graph).expects("a").succeeds("a", after=(True, False)).expects("b").succeeds("b", {"b": 1}).completes(b=1)


def test_numbers_that_branches_add_up_to_more_than_a_state_can_hold() -> None:
    graph = replace(graph_of("start>a start>b a>j b>j j>end"), reducers=(("n", Reducer.ADD),))
    run = play(graph, n=2**62).expects("a", "b").succeeds("a", {"n": 2**63 - 1}).succeeds("b", {"n": 2**62 + 1})
    run.breaks("state_conflict", "'a' and 'b'", "'n'", "'j'", "numbers that a state can hold", n=1)
