"""Pauses: nothing is started, what runs comes to its end, and what was held starts in its order afterwards."""

from __future__ import annotations

from tests.unit.model.graphs import graph_of, loop, mapped, subgraph, tried, waiting
from tests.unit.model.playbook import Playbook, play, play_with, prepared

from sandgraph.model import events
from sandgraph.model.graph import Node
from sandgraph.model.run import NodeRunStatus, RunStatus

WAITING, RUNNING = NodeRunStatus.WAITING, NodeRunStatus.RUNNING
CHAIN = graph_of("start>a a>b b>end")


def test_what_runs_comes_to_its_end_and_commits_and_nothing_is_started() -> None:
    run = play(CHAIN).expects("a").pauses().works().succeeds("a", {"a": 1}).expects().waits().has(WAITING, "b")
    assert "paused" in run.ledger.messages[next(key for key in run.ledger.node_runs if key.node == "b")]
    run.commits("a")
    run.unpauses().works().expects("b").sees("b", a=1).succeeds("b").completes(a=1)


def test_a_run_that_is_paused_before_it_starts_starts_nothing() -> None:
    run = prepared(CHAIN).pauses()
    assert run.run.status is RunStatus.PENDING
    run.starts().expects().waits().has(WAITING, "a").unpauses().expects("a").works()


def test_a_run_that_was_paused_only_before_it_started_goes_on() -> None:
    prepared(CHAIN).pauses().unpauses().starts().expects("a")


def test_to_pause_or_unpause_twice_changes_nothing() -> None:
    run = play(CHAIN).expects("a").told(events.UnpauseRequested()).does_nothing()
    run.pauses().told(events.PauseRequested()).does_nothing().unpauses().told(events.UnpauseRequested()).does_nothing()
    run.succeeds("a").expects("b")


def test_tokens_move_on_and_branches_meet() -> None:
    graph = graph_of("start>a start>b a>j b>j j>k k>c c>end", Node("j"), Node("k"))
    run = play(graph).expects("a", "b").pauses().succeeds("b", {"b": 1}).works().succeeds("a", {"a": 1}).waits()
    run.unpauses().expects("c").sees("c", a=1, b=1)


def test_a_run_may_complete_while_it_is_paused() -> None:
    play(graph_of("start>a a>end")).expects("a").pauses().succeeds("a", {"a": 1}).completes(a=1)


def test_a_failure_may_end_it_and_so_may_its_time_and_a_cancel() -> None:
    graph = graph_of("start>a start>b a>c b>end c>end")
    run = play(graph).expects("a", "b").pauses().succeeds("a").fails("b").breaks("error")
    run.has(NodeRunStatus.CANCELLED, "c")
    play(graph).expects("a", "b").pauses().succeeds("a").cancelled().stops()
    play(graph).expects("a", "b").pauses().timed_out().breaks("run_timeout")


def test_what_was_held_starts_in_its_order() -> None:
    graph = graph_of("start>a start>b start>c a>x b>y c>z x>end y>end z>end")
    run = play(graph).expects("a", "b", "c").pauses().succeeds("c").succeeds("a").succeeds("b").waits()
    run.unpauses().expects("z", "x", "y")


def test_conditions_that_have_an_attempt_of_their_own_are_held() -> None:
    graph = graph_of("start>w w>a? w>end!", waiting("w"))
    run = play(graph).pauses().receives("go", 1).waits().expects().unpauses().expects("w").asks("w").sees("w", go=1)
    run.succeeds("w", after=(False,)).completes(go=1)


def test_events_are_taken_while_a_run_is_paused() -> None:
    graph = graph_of("start>w w>v v>end", waiting("w"), waiting("v"))
    play(graph).pauses().receives("go", 1).waits().has(WAITING, "v").receives("go", 2).completes(go=2)


def test_time_goes_on_while_a_run_is_paused() -> None:
    run = play(graph_of("start>t t>a a>end", waiting("t", None, 5))).pauses().elapses("t").has(WAITING, "a")
    run.unpauses().expects("a")


def test_a_retry_whose_wait_is_over_is_held() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").pauses().fails("a").schedules("a", 0.5).works()
    run.waits_no_more("a").expects().waits().has(NodeRunStatus.RETRYING, "a")
    # Whoever stores what a run is told stores only what something follows from.
    assert run.commands
    run.unpauses().expects("a/2").works().succeeds("a").completes()


def test_a_retry_that_is_still_waited_for_comes_in_its_time() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").pauses().fails("a").unpauses().expects()
    run.works().waits_no_more("a").expects("a/2")


def test_a_wait_that_is_over_twice_starts_one_attempt() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").pauses().fails("a").waits_no_more("a")
    run.told(events.RetryDue(next(iter(run.run.active)), 2)).does_nothing().unpauses().expects("a/2")


def test_an_attempt_that_was_held_keeps_its_retries() -> None:
    run = play(graph_of("start>a a>b b>end", tried("b", 2))).expects("a").pauses().succeeds("a").unpauses().expects("b")
    run.fails("b").waits_no_more("b").expects("b/2").fails("b").breaks("error")


def test_a_loop_node_is_held_between_its_iterations() -> None:
    run = play(graph_of("start>l l>end", loop("l", 3, None))).expects("l").pauses().succeeds("l").waits()
    run.has(WAITING, "l#2").unpauses().expects("l#2").succeeds("l#2").expects("l#3")


def test_a_cycle_is_held_between_its_iterations() -> None:
    run = play(graph_of("start>h h>h? h>end!")).expects("h").pauses().succeeds("h", after=(True,)).waits()
    run.unpauses().expects("h#2").succeeds("h#2", after=(False,)).completes()


def test_a_timer_whose_conditions_are_held_is_told_of() -> None:
    run = play(graph_of("start>t t>a? t>end! a>end", waiting("t", None, 5))).pauses().elapses("t").waits()
    assert run.commands
    run.unpauses().expects("t").asks("t").succeeds("t", after=(False,)).completes()


def test_a_map_begins_no_more_items() -> None:
    run = play(graph_of("start>m m>end", mapped("m", 2)), items=[1, 2, 3]).expects("m#1/m", "m#1/m#2").pauses()
    run.succeeds("m#1/m", value=10).expects().works().succeeds("m#1/m#2", value=20).waits().has(WAITING, "m#1/m#3")
    run.unpauses().expects("m#1/m#3").succeeds("m#1/m#3", value=30).completes(items=[1, 2, 3], results=[10, 20, 30])


def test_a_map_that_begins_in_a_pause_holds_its_items() -> None:
    graph = graph_of("start>a a>m m>end", mapped("m"))
    run = play(graph, items=[1, 2]).expects("a").pauses().succeeds("a").waits().has(WAITING, "m#1/m", "m#1/m#2")
    run.has(RUNNING, "m").unpauses().expects("m#1/m", "m#1/m#2")


def in_subgraph() -> Playbook:
    graph = graph_of("start>s start>b s>end b>c c>end", subgraph("s"))
    return play_with({"inner": graph_of("start>x x>y y>end")}, graph).expects("s#1/x", "b")


def test_a_subgraph_is_paused_with_its_run() -> None:
    run = in_subgraph().pauses().succeeds("b").succeeds("s#1/x", {"x": 1}).waits().has(WAITING, "c", "s#1/y")
    run.unpauses().expects("c", "s#1/y").succeeds("s#1/y").succeeds("c").completes(x=1)


def test_a_subgraph_that_begins_in_a_pause_is_held_at_its_start() -> None:
    graph = graph_of("start>a a>s s>end", subgraph("s"))
    run = play_with({"inner": graph_of("start>x x>end")}, graph).expects("a").pauses().succeeds("a", {"a": 1}).waits()
    run.unpauses().expects("s#1/x").sees("s#1/x", a=1)


def test_what_loses_a_race_while_it_is_held_is_cancelled() -> None:
    graph = graph_of("start>a start>w a>b b>j w>j j>end", waiting("w"), Node("j", join=1))
    run = play(graph).expects("a").pauses().succeeds("a").has(WAITING, "b", "w").receives("go", 1).completes(go=1)
    run.has(NodeRunStatus.CANCELLED, "b")
