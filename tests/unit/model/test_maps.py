"""Maps: a function for each item of a list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.model.graphs import graph_of, mapped, plain, waiting
from tests.unit.model.playbook import Playbook, play

from sandgraph.model import events
from sandgraph.model.graph import Graph, Node, OnError
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus, NodeRunStatus
from sandgraph.model.state import Json, ReduceKey

CANCELLED, FAILED, SUCCEEDED = NodeRunStatus.CANCELLED, NodeRunStatus.FAILED, NodeRunStatus.SUCCEEDED
TIMED_OUT = NodeRunStatus.TIMED_OUT

CHAIN = graph_of("start>m m>b b>end", mapped("m"))
TWICE = Retry(max_attempts=2, jitter=False)


def finishing(graph: Graph) -> Graph:
    return replace(graph, on_error=OnError.FINISH)


def items(*names: str) -> tuple[str, ...]:
    return tuple(f"m#1/{name}" for name in names)


def three(**fields: object) -> Playbook:
    graph = graph_of("start>m m>b b>end", mapped("m", **fields))  # type: ignore[arg-type]
    return play(graph, items=["x", "y", "z"])


def test_results_are_in_the_order_of_the_items_whatever_the_order_in_time() -> None:
    run = three().expects(*items("m", "m#2", "m#3"))
    for name, value in [("m#1/m#2", "Y"), ("m#1/m#3", "Z"), ("m#1/m", "X")]:
        run.succeeds(name, value=value)
    run.expects("b").sees("b", items=["x", "y", "z"], results=["X", "Y", "Z"]).commits("m")
    run.succeeds("b").completes(items=["x", "y", "z"], results=["X", "Y", "Z"])
    run.has(SUCCEEDED, "start", "m", *items("m", "m#2", "m#3"), "b", "end")


def test_an_attempt_knows_its_item_and_sees_what_the_map_saw() -> None:
    run = three().expects(*items("m", "m#2", "m#3"))
    starts = list(run.ledger.running.values())
    assert [start.item for start in starts] == [0, 1, 2]
    assert [start.key.iteration for start in starts] == [1, 2, 3]
    assert all(start.view.state == {"items": ["x", "y", "z"]} and start.graph_id is None for start in starts)


def test_so_many_run_at_one_time() -> None:
    run = play(graph_of("start>m m>end", mapped("m", 2)), items=[1, 2, 3, 4]).expects(*items("m", "m#2"))
    run.succeeds("m#1/m#2", value=2).expects(*items("m#3")).succeeds("m#1/m#3", value=3).expects(*items("m#4"))
    run.succeeds("m#1/m", value=1).expects().succeeds("m#1/m#4", value=4).completes(
        items=[1, 2, 3, 4], results=[1, 2, 3, 4]
    )


def test_an_empty_list_has_no_results_at_once() -> None:
    play(CHAIN, items=[]).expects("b").sees("b", items=[], results=[])


@pytest.mark.parametrize("value", [None, False, 0, "", {}, [[]]])
def test_a_result_may_be_any_value(value: Json) -> None:
    play(graph_of("start>m m>end", mapped("m")), items=[1]).expects("m#1/m").succeeds("m#1/m", value=value).completes(
        items=[1], results=[value]
    )


def test_what_an_item_changes_in_the_state_is_not_committed() -> None:
    run = play(graph_of("start>m m>end", mapped("m")), items=[1]).expects("m#1/m")
    run.succeeds("m#1/m", {"n": 1}, value=2).completes(items=[1], results=[2])


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({}, "is not in the state"),
        ({"items": None}, "is null"),
        ({"items": {}}, "is an object"),
        ({"items": "abc"}, "is a string"),
        ({"items": 3}, "is a number"),
        ({"items": True}, "is a boolean"),
    ],
)
def test_what_is_no_list_fails_the_map(state: dict[str, Json], found: str) -> None:
    play(CHAIN, **state).breaks("map_items_invalid", "'items'", found, **state).has(FAILED, "m")


def test_that_may_be_handled_too() -> None:
    run = play(graph_of("start>m m>b m>c^f b>end c>end", mapped("m"))).resolves("start>m", "m-b", "m>c", "b-end")
    run.expects("c").succeeds("c").completes()


def test_the_results_may_replace_the_items() -> None:
    graph = graph_of("start>m m>end", replace(mapped("m"), into="items"))
    play(graph, items=[1]).expects("m#1/m").succeeds("m#1/m", value=2).completes(items=[2])


def test_a_map_in_parallel_with_what_changes_its_key() -> None:
    run = play(graph_of("start>m start>b m>j b>j j>end", mapped("m")), items=[1]).expects("m#1/m", "b")
    run.succeeds("m#1/m").succeeds("b", {"results": 1}).breaks("state_conflict", "'m' and 'b'", items=[1], results=1)


def test_two_maps_come_together_by_a_reducer() -> None:
    graph = graph_of("start>m start>n m>j n>j j>end", mapped("m"), mapped("n"))
    run = play(replace(graph, reducers=(("results", Reducer.EXTEND),)), items=[1]).expects("m#1/m", "n#1/n")
    run.succeeds("n#1/n", value="n").succeeds("m#1/m", value="m").expects("j").sees("j", items=[1], results=["m", "n"])
    assert run.ledger.commits[1].diff.ops == (ReduceKey("results", Reducer.EXTEND, ["n"]),)


def test_results_that_are_there_already_are_no_change() -> None:
    graph = graph_of("start>m start>b m>j b>j j>end", mapped("m"))
    run = play(graph, items=[1], results=[2]).expects("m#1/m", "b").succeeds("m#1/m", value=2)
    assert run.ledger.commits[1].diff.ops == ()
    run.succeeds("b", {"results": 3}).expects("j").sees("j", items=[1], results=3)


# Conditions behind a map


def test_conditions_are_asked_once_all_items_are_done() -> None:
    run = play(graph_of("start>m m>a? m>end!", mapped("m"), plain("a")), items=[1]).expects("m#1/m")
    run.succeeds("m#1/m", value=2).expects("m").asks("m").sees("m", items=[1], results=[2])
    run.succeeds("m", {"n": 1}, after=(False,)).completes(items=[1], results=[2])
    run.commits("m")


def test_conditions_behind_an_empty_map_are_asked_too() -> None:
    run = play(graph_of("start>m m>a? a>end m>end!", mapped("m"), plain("a")), items=[]).expects("m").asks("m")
    run.succeeds("m", after=(True,)).completes(items=[], results=[])


def test_a_condition_that_fails_is_tried_again_and_no_item_is() -> None:
    run = play(graph_of("start>m m>a? m>b^f a>end b>end", mapped("m", retry=TWICE)), items=[1]).expects("m#1/m")
    run.succeeds("m#1/m", value=2).expects("m").fails("m").schedules("m", 0.5).waits_no_more("m").expects("m/2")
    run.asks("m").fails("m").expects("b").sees("b", items=[1], results=[2])


# Failures


def test_map_with_failures_an_item_is_tried_again_alone() -> None:
    run = three(retry=TWICE).expects(*items("m", "m#2", "m#3")).fails("m#1/m#2").schedules("m#1/m#2", 0.5)
    run.succeeds("m#1/m").succeeds("m#1/m#3").waits_no_more("m#1/m#2").expects("m#1/m#2/2")
    run.succeeds("m#1/m#2", value=1).expects("b").sees("b", items=["x", "y", "z"], results=[None, 1, None])


def test_map_with_failures_the_first_that_fails_for_good_ends_the_map_and_cancels_the_others() -> None:
    run = play(graph_of("start>m m>b b>end", mapped("m", 2)), items=[1, 2, 3]).expects(*items("m", "m#2"))
    run.fails("m#1/m#2").breaks("error", "Item 1: It broke.", items=[1, 2, 3])
    run.has(CANCELLED, "m#1/m").has(FAILED, "m", "m#1/m#2")
    assert run.ledger.outcome is not None
    assert run.ledger.outcome.failure is not None
    assert run.ledger.outcome.failure.node == "m"


def test_map_with_failures_one_that_waits_for_its_retry_is_cancelled() -> None:
    run = three(retry=replace(TWICE, on=frozenset({AttemptStatus.OOM}))).expects(*items("m", "m#2", "m#3"))
    run.fails("m#1/m", AttemptStatus.OOM).fails("m#1/m#3").breaks("error", "Item 2", items=["x", "y", "z"])
    run.has(CANCELLED, *items("m", "m#2"))


def test_map_with_failures_a_graph_that_finishes_lets_all_others_run() -> None:
    graph = finishing(graph_of("start>m m>b b>end", mapped("m", 2)))
    run = play(graph, items=[1, 2, 3, 4]).expects(*items("m", "m#2")).fails("m#1/m#2").expects(*items("m#3"))
    run.fails("m#1/m#3").expects(*items("m#4")).succeeds("m#1/m#4").succeeds("m#1/m").skips("b", "end")
    run.breaks("error", "Item 1: It broke. (and 1 more item failed)", items=[1, 2, 3, 4])


def test_map_with_failures_that_many_more_are_counted() -> None:
    run = play(finishing(CHAIN), items=[1, 2, 3]).expects(*items("m", "m#2", "m#3"))
    run.fails("m#1/m#3").fails("m#1/m#2", AttemptStatus.OOM).fails("m#1/m")
    run.breaks("error", "Item 0", "(and 2 more items failed)", items=[1, 2, 3])


def test_map_with_failures_may_be_handled() -> None:
    graph = graph_of("start>m m>b m>c^f b>end c>end", mapped("m"))
    run = play(graph, items=[1, 2]).expects(*items("m", "m#2")).fails("m#1/m")
    run.resolves("m-b", "m>c", "b-end").expects("c").sees("c", items=[1, 2]).succeeds("c").completes(items=[1, 2])


def test_map_with_failures_an_item_that_takes_too_long_has_failed() -> None:
    graph = graph_of("start>m m>b m>c^f m>d^t b>end c>end d>end", mapped("m"))
    run = play(graph, items=[1, 2]).expects(*items("m", "m#2")).fails("m#1/m", AttemptStatus.TIMEOUT).expects("c")
    run.has(TIMED_OUT, "m#1/m").has(FAILED, "m")


def test_map_with_failures_a_lost_item_is_made_again() -> None:
    run = three().expects(*items("m", "m#2", "m#3")).fails("m#1/m", AttemptStatus.LOST).schedules("m#1/m", 0.5)
    run.waits_no_more("m#1/m").expects("m#1/m/2")


def test_map_with_failures_nothing_is_committed() -> None:
    run = three().expects(*items("m", "m#2", "m#3")).succeeds("m#1/m", value=1).fails("m#1/m#2")
    run.breaks("error", items=["x", "y", "z"]).commits()


# Time, bounds, cancels


def test_a_map_that_takes_too_long_is_timed_out_with_all_its_items() -> None:
    graph = graph_of("start>m m>b m>c^t b>end c>end", mapped("m", 1, timeout_s=5))
    run = play(graph, items=[1, 2]).sets_timer("m", 5).expects(*items("m")).elapses("m").expects("c")
    run.has(TIMED_OUT, "m").has(CANCELLED, "m#1/m").succeeds("c").completes(items=[1, 2])


def test_a_map_that_takes_too_long_fails_its_run() -> None:
    run = three(timeout_s=2.5).expects(*items("m", "m#2", "m#3")).elapses("m")
    run.breaks("timeout", "2.5 s", items=["x", "y", "z"])


def test_its_time_does_not_count_for_what_is_asked_behind_it() -> None:
    run = play(graph_of("start>m m>a? m>end!", mapped("m", timeout_s=5), plain("a")), items=[1]).expects("m#1/m")
    run.succeeds("m#1/m").expects("m")
    run.told(events.TimeElapsed(next(key for key in run.ledger.node_runs if str(key) == "m"))).does_nothing()


def test_each_item_counts_as_a_step() -> None:
    graph = graph_of("start>m m>b b>end", mapped("m"), max_steps=4)
    run = play(graph, items=[1, 2]).expects(*items("m", "m#2"))
    assert run.run.steps == 3
    run.succeeds("m#1/m").succeeds("m#1/m#2").expects("b").succeeds("b").completes(items=[1, 2], results=[None, None])


def test_a_map_of_more_items_than_there_are_steps_does_not_begin() -> None:
    graph = graph_of("start>x start>m x>end m>b b>end", mapped("m"), max_steps=4)
    run = play(graph, items=[1, 2, 3]).breaks("max_steps_exceeded", "4 steps", "'m'", items=[1, 2, 3])
    assert not any(key.scope for key in run.ledger.node_runs)


def test_a_cancel_stops_every_item() -> None:
    run = three().expects(*items("m", "m#2", "m#3")).succeeds("m#1/m").cancelled().stops(items=["x", "y", "z"])
    run.has(CANCELLED, "m", *items("m#2", "m#3"))


def test_a_result_that_comes_too_late_changes_nothing() -> None:
    graph = graph_of("start>m m>b m>c^f b>end c>end", mapped("m"))
    run = play(graph, items=[1, 2]).expects(*items("m", "m#2"))
    late = next(key for key in run.ledger.running if key.iteration == 2)
    run.fails("m#1/m").expects("c").told(events.AttemptSucceeded(late, 1, value=1)).does_nothing()


def test_a_map_that_loses_a_race_is_cancelled_with_its_items() -> None:
    graph = graph_of("start>m start>b m>j b>j j>end", mapped("m"), Node("j", join=1))
    run = (
        play(graph, items=[1, 2]).expects(*items("m", "m#2"), "b").succeeds("b", {"b": 1}).completes(items=[1, 2], b=1)
    )
    run.has(CANCELLED, "m", *items("m", "m#2"))


def test_a_map_may_win() -> None:
    graph = graph_of("start>m start>w m>j w>j j>end", mapped("m"), Node("j", join=1), waiting("w"))
    run = play(graph, items=[1]).expects("m#1/m").succeeds("m#1/m", value=2).completes(items=[1], results=[2])
    run.has(CANCELLED, "w")


def test_a_map_in_a_cycle_runs_over_what_is_there_each_time() -> None:
    graph = graph_of("start>m m>b b>m? b>end!", mapped("m"))
    run = play(graph, items=[1]).expects("m#1/m").succeeds("m#1/m", value=2).expects("b")
    run.succeeds("b", {"items": [3, 4]}, after=(True,)).expects("m#2/m", "m#2/m#2")
    run.succeeds("m#2/m#2", value=6).succeeds("m#2/m", value=5).expects("b#2").sees("b#2", items=[3, 4], results=[5, 6])


def test_two_maps_at_one_time_do_not_mix() -> None:
    graph = graph_of("start>m start>n m>j n>j j>end", mapped("m"), replace(mapped("n"), into="others"))
    run = play(graph, items=[1, 2]).expects("m#1/m", "m#1/m#2", "n#1/n", "n#1/n#2")
    run.succeeds("n#1/n#2", value="n2").succeeds("m#1/m#2", value="m2").succeeds("m#1/m", value="m1")
    run.succeeds("n#1/n", value="n1").expects("j").sees("j", items=[1, 2], results=["m1", "m2"], others=["n1", "n2"])
