"""Waits: for events, early and late, and for time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.model.graphs import graph_of, loop, plain, subgraph, tried, waiting
from tests.unit.model.playbook import Playbook, play, play_with, prepared

from sandgraph.model import events
from sandgraph.model.graph import Node, OnError
from sandgraph.model.reducers import Reducer
from sandgraph.model.run import NodeRunStatus
from sandgraph.model.state import ReduceKey, SetKey

CANCELLED, WAITING, TIMED_OUT = NodeRunStatus.CANCELLED, NodeRunStatus.WAITING, NodeRunStatus.TIMED_OUT

CHAIN = graph_of("start>a a>w w>b b>end", waiting("w"))


def waits_in_chain() -> Playbook:
    return play(CHAIN).expects("a").succeeds("a", {"a": 1}).waits().has(WAITING, "w")


# Events


def test_a_run_waits_for_its_event_and_goes_on_with_it() -> None:
    run = waits_in_chain().receives("go", {"by": "me"}).works().expects("b").sees("b", a=1, go={"by": "me"})
    run.succeeds("b", {"b": 1}).completes(a=1, b=1, go={"by": "me"})
    run.commits("a", "w", "b")


def test_a_payload_goes_where_the_wait_says() -> None:
    graph = graph_of("start>w w>end", waiting("w", into="answer"))
    play(graph).waits().receives("go", [1]).completes(answer=[1])


@pytest.mark.parametrize("payload", [False, 0, "", [], {}])
def test_a_payload_that_is_empty_is_one(payload: object) -> None:
    play(graph_of("start>w w>end", waiting("w"))).receives("go", payload).completes(go=payload)  # type: ignore[arg-type]


def test_an_event_without_payload_commits_nothing() -> None:
    run = play(graph_of("start>w w>end", waiting("w")), go=1).receives("go").completes(go=1)
    run.commits()


def test_a_payload_that_is_there_already_is_no_change() -> None:
    run = play(graph_of("start>w w>end", waiting("w")), go=1).receives("go", 1)
    assert run.ledger.commits[1].diff.ops == ()
    play(graph_of("start>w w>end", waiting("w")), go=1).receives("go", payload=True).completes(go=True)


def test_what_a_payload_commits_counts_as_the_waits() -> None:
    run = play(graph_of("start>w start>b w>j b>j j>end", waiting("w"))).expects("b").receives("go", 1)
    run.succeeds("b", {"go": 2}).breaks("state_conflict", "'w' and 'b'", "'go'", go=2)


def test_a_payload_and_a_branch_come_together_by_a_reducer() -> None:
    graph = replace(graph_of("start>w start>b w>j b>j j>end", waiting("w")), reducers=(("go", Reducer.APPEND),))
    run = play(graph, go=[0]).expects("b").succeeds("b", {"go": [0, 2]}).receives("go", [0, 1])
    assert run.ledger.commits[2].diff.ops == (ReduceKey("go", Reducer.APPEND, [1]),)
    run.expects("j").sees("j", go=[0, 1, 2])


def test_an_event_that_comes_early_is_kept() -> None:
    run = play(CHAIN).expects("a").receives("go", 1).succeeds("a").expects("b").sees("b", go=1)
    run.succeeds("b").completes(go=1)
    assert run.ledger.taken == {"e1": next(key for key in run.ledger.node_runs if key.node == "w")}


def test_an_event_that_comes_before_the_run_starts_is_kept() -> None:
    run = prepared(graph_of("start>w w>end", waiting("w"))).receives("go", 1)
    run.starts().completes(go=1)


def test_events_are_taken_in_the_order_they_came_in() -> None:
    graph = graph_of("start>a a>v v>w w>end", waiting("v", into="v"), waiting("w", into="w"))
    play(graph).expects("a").receives("go", 1).receives("go", 2).succeeds("a").completes(v=1, w=2)


def test_each_event_is_taken_once_and_the_first_wait_has_it() -> None:
    graph = graph_of("start>a start>b a>v b>w v>j w>j j>end", waiting("v", into="v"), waiting("w", into="w"))
    run = play(graph).expects("a", "b").succeeds("b").succeeds("a").waits().receives("go", 1).waits().has(WAITING, "v")
    run.receives("go", 2).expects("j").sees("j", v=2, w=1)


def test_an_event_that_nobody_waits_for_changes_nothing_else() -> None:
    run = waits_in_chain().receives("other", 1).waits().has(WAITING, "w").receives("go").expects("b").succeeds("b")
    run.completes(a=1)


def test_an_event_that_a_wait_for_time_does_not_want_is_kept() -> None:
    graph = graph_of("start>t t>w w>end", waiting("t", None, 5), waiting("w"))
    play(graph).receives("go", 1).waits().elapses("t").completes(go=1)


def test_conditions_behind_a_wait_are_asked_once_it_has_its_event() -> None:
    graph = graph_of("start>w w>a? w>b! a>end b>end", waiting("w"), plain("a"))
    run = play(graph).waits().receives("go", payload=True).works().expects("w").asks("w").sees("w", go=True)
    run.succeeds("w", after=(True,)).skips("b").completes(go=True)
    run.commits("w")


def test_conditions_behind_a_wait_are_tried_again_as_its_node_says() -> None:
    waits = replace(waiting("w"), retry=tried("w", 2).retry)
    run = play(graph_of("start>w w>a? w>end!", waits)).receives("go", 1).expects("w").fails("w").schedules("w", 0.5)
    run.works().waits_no_more("w").expects("w/2").asks("w").succeeds("w", after=(False,)).completes(go=1)


def test_a_condition_behind_a_wait_that_fails_leaves_what_the_event_brought() -> None:
    graph = graph_of("start>w w>a? w>b^f a>end b>end", waiting("w"))
    run = play(graph).receives("go", 1).expects("w").fails("w").expects("b").sees("b", go=1)
    run.succeeds("b").completes(go=1)


# Time


def test_a_wait_without_event_is_over_with_its_time() -> None:
    run = play(graph_of("start>t t>end", waiting("t", None, 5))).sets_timer("t", 5).waits()
    run.elapses("t").completes()


def test_a_wait_whose_event_does_not_come_takes_too_long() -> None:
    run = play(graph_of("start>w w>end", waiting("w", timeout_s=5))).sets_timer("w", 5).elapses("w")
    run.breaks("timeout", "'go'", "5 s").has(TIMED_OUT, "w")


def test_it_may_be_left_for_that() -> None:
    graph = graph_of("start>w w>a w>b^t a>end b>end", waiting("w", timeout_s=5))
    play(graph).elapses("w").resolves("w-a", "w>b", "a-end").expects("b").succeeds("b").completes()
    play(graph).receives("go").resolves("w>a", "w-b", "b-end").expects("a").succeeds("a").completes()


def test_a_time_that_is_over_too_late_changes_nothing() -> None:
    run = play(graph_of("start>w w>b b>end", waiting("w", timeout_s=5))).receives("go").expects("b")
    run.told(events.TimeElapsed(next(key for key in run.ledger.node_runs if key.node == "w"))).does_nothing()
    run.succeeds("b").completes()


def test_a_time_out_with_finish_lets_the_others_go_on() -> None:
    graph = replace(graph_of("start>w start>b w>c b>end c>end", waiting("w", timeout_s=5)), on_error=OnError.FINISH)
    run = play(graph).expects("b").elapses("w").skips("c")
    run.succeeds("b", {"b": 1}).skips("end").breaks("timeout", b=1)


def test_while_something_runs_the_run_does_not_wait() -> None:
    run = play(graph_of("start>w start>b w>end b>end", waiting("w"))).expects("b").works()
    run.succeeds("b").waits().receives("go").completes()


def test_while_something_is_to_be_tried_again_the_run_does_not_wait() -> None:
    run = play(graph_of("start>w start>b w>end b>end", waiting("w"), tried("b", 2))).expects("b").fails("b").works()
    run.waits_no_more("b").expects("b/2").succeeds("b").waits().cancelled().stops().has(CANCELLED, "w")


# Elsewhere


def test_a_wait_in_a_cycle_waits_anew_each_time() -> None:
    graph = graph_of("start>w w>b b>w? b>end!", waiting("w"))
    run = play(graph).waits().receives("go", 1).expects("b").succeeds("b", after=(True,)).waits().has(WAITING, "w#2")
    run.receives("go", 2).expects("b#2").succeeds("b#2", after=(False,)).completes(go=2)


def test_a_wait_in_a_cycle_has_its_time_anew() -> None:
    graph = graph_of("start>t t>b b>t? b>end!", waiting("t", None, 5))
    run = play(graph).sets_timer("t", 5).elapses("t").expects("b").succeeds("b", after=(True,)).sets_timer("t#2", 5)
    run.told(events.TimeElapsed(next(key for key in run.ledger.node_runs if key.node == "t"))).does_nothing()
    run.elapses("t#2").expects("b#2")


def test_a_cycle_takes_one_event_a_turn() -> None:
    graph = graph_of("start>a a>w w>w? w>end!", waiting("w"))
    run = play(graph).expects("a").receives("go", 1).receives("go", 2).receives("go", 3).succeeds("a").expects("w")
    run.sees("w", go=1).succeeds("w", after=(True,)).expects("w#2").sees("w#2", go=2)
    run.succeeds("w#2", after=(False,)).completes(go=2)


def test_a_wait_that_loses_a_race_is_cancelled_and_takes_nothing() -> None:
    graph = graph_of("start>w start>b w>j b>j j>v v>end", Node("j", join=1), waiting("w"), waiting("v"))
    run = play(graph).expects("b").succeeds("b").has(CANCELLED, "w").waits().has(WAITING, "v")
    run.receives("go", 1).completes(go=1)


def test_a_wait_may_win() -> None:
    graph = graph_of("start>w start>b w>j b>j j>end", Node("j", join=1), waiting("w"))
    run = play(graph).expects("b").receives("go", 1).completes(go=1)
    run.has(CANCELLED, "b")


def test_an_event_that_wins_a_race_for_one_of_two_waits() -> None:
    graph = graph_of("start>v start>w v>j w>j j>u u>end", *(waiting(name) for name in "uvw"), Node("j", join=1))
    run = play(graph).waits().receives("go", 1).has(CANCELLED, "w").waits().has(WAITING, "u")
    run.receives("go", 2).completes(go=2)


def test_a_wait_that_is_skipped_takes_nothing() -> None:
    graph = graph_of("start>a a>w? a>b! w>end b>v v>end", waiting("w"), waiting("v"), plain("b"))
    play(graph).expects("a").receives("go", 1).succeeds("a", after=(False,)).skips("w").completes(go=1)


def test_a_failure_elsewhere_cancels_what_waits() -> None:
    run = play(graph_of("start>w start>b w>end b>end", waiting("w"))).expects("b").fails("b").breaks("error")
    run.has(CANCELLED, "w")


def test_a_wait_counts_as_a_step() -> None:
    graph = graph_of("start>w w>v v>end", waiting("w"), waiting("v"), max_steps=1)
    play(graph).receives("go").breaks("max_steps_exceeded", "'v'")


def test_the_wait_that_began_first_has_the_event_wherever_it_is() -> None:
    inner = graph_of("start>w w>end", waiting("w", into="inner"))
    graph = graph_of("start>a start>s a>w s>j w>j j>end", subgraph("s"), waiting("w", into="outer"))
    run = play_with({"inner": inner}, graph).expects("a").has(WAITING, "s#1/w").succeeds("a").waits()
    run.receives("go", 1).waits().has(WAITING, "w").receives("go", 2).expects("j").sees("j", inner=1, outer=2)


def test_a_wait_in_a_loop_of_subgraphs_takes_what_was_kept_outside() -> None:
    inner = graph_of("start>w w>end", waiting("w"))
    graph = graph_of("start>a a>s s>b b>s? b>end!", subgraph("s"))
    run = play_with({"inner": inner}, graph).expects("a").receives("go", 1).receives("go", 2).succeeds("a")
    run.expects("b").sees("b", go=1).succeeds("b", after=(True,)).expects("b#2").sees("b#2", go=2)


def test_a_loop_node_beside_a_wait_works_on() -> None:
    graph = graph_of("start>w start>l w>j l>j j>end", waiting("w"), loop("l", 2, None))
    run = play(graph).expects("l").receives("go").succeeds("l").expects("l#2").works().succeeds("l#2").expects("j")
    assert not any(isinstance(op, SetKey) for commit in run.ledger.commits.values() for op in commit.diff.ops)
