"""Runs that go on as new ones: amended commits, and attempts that are made anew."""

from __future__ import annotations

from tests.unit.model.graphs import graph_of, loop, mapped, tried, waiting
from tests.unit.model.playbook import play, prepared

from sandgraph.model import events
from sandgraph.model.run import AttemptStatus, NodeRunStatus

RETRYING, WAITING = NodeRunStatus.RETRYING, NodeRunStatus.WAITING
CHOICE = graph_of("start>a a>b? a>c! b>end c>end")


# Amended commits


def test_an_amended_commit_is_made_and_the_conditions_are_asked_anew() -> None:
    run = play(CHOICE).expects("a").succeeds("a", {"n": 2}, after=(False,), is_amended=True).expects("a/2").asks("a")
    run.sees("a", n=2).commits("a").succeeds("a", {"n": 9}, after=(True,)).skips("c").expects("b").sees("b", n=2)
    run.commits("a").succeeds("b").completes(n=2)


def test_without_conditions_it_goes_on_at_once() -> None:
    run = play(graph_of("start>a a>b b>end")).expects("a").succeeds("a", {"n": 2}, is_amended=True).expects("b")
    run.sees("b", n=2)


def test_to_ask_anew_is_tried_again_as_the_node_says() -> None:
    graph = graph_of("start>a a>b? a>c! b>end c>end", tried("a", 2))
    run = play(graph).expects("a").fails("a").waits_no_more("a").expects("a/2")
    run.succeeds("a", {"n": 2}, after=(False,), is_amended=True).expects("a/3").fails("a").schedules("a", 0.5)
    run.waits_no_more("a").expects("a/4").asks("a").fails("a").breaks("error", n=2)


def test_a_loops_own_condition_is_asked_anew() -> None:
    graph = graph_of("start>l l>b? l>end! b>end", loop("l", 5))
    run = play(graph).expects("l").succeeds("l", {"n": 1}, again=False, after=(True,), is_amended=True).expects("l/2")
    run.asks("l")
    assert not run.ledger.running[next(iter(run.ledger.running))].is_entry
    run.succeeds("l", again=True).expects("l#2").sees("l#2", n=1).succeeds("l#2", again=False, after=(False,))
    run.completes(n=1)


def test_a_loops_last_iteration_is_still_its_last() -> None:
    graph = graph_of("start>l l>end", loop("l", 1))
    run = play(graph).expects("l").succeeds("l", {"n": 1}, again=True, is_amended=True).expects("l/2")
    assert run.ledger.running[next(iter(run.ledger.running))].is_last
    run.succeeds("l", again=True).completes(n=1)


def test_a_loop_without_condition_goes_on_and_asks_its_edges_at_its_end() -> None:
    graph = graph_of("start>l l>b? l>end! b>end", loop("l", 2, None))
    run = play(graph).expects("l").succeeds("l", {"n": 1}, is_amended=True).expects("l/2").asks("l").succeeds("l")
    run.expects("l#2").sees("l#2", n=1).succeeds("l#2", after=(False,)).completes(n=1)


def test_to_ask_anew_is_held_in_a_pause() -> None:
    run = play(CHOICE).expects("a").pauses().succeeds("a", {"n": 2}, after=(False,), is_amended=True).waits()
    run.commits("a").unpauses().expects("a/2").asks("a").succeeds("a", after=(True,)).expects("b")


# Reopened


def test_resume_keeps_completed_siblings() -> None:
    run = play(graph_of("start>a start>b start>c a>j b>j c>j j>end")).expects("a", "b", "c").succeeds("b", {"b": 1})
    run.reopens().expects("a/2", "c/2").succeeds("c", {"c": 1}).succeeds("a", {"a": 1}).expects("j")
    run.sees("j", a=1, b=1, c=1).succeeds("j").completes(a=1, b=1, c=1)
    lost = [key.node for (key, _), status in run.ledger.attempts.items() if status is AttemptStatus.LOST]
    assert lost == ["a", "c"]


def test_resume_keeps_completed_siblings_among_the_items_of_a_map() -> None:
    run = play(graph_of("start>m m>end", mapped("m", 2)), items=[1, 2, 3]).expects("m#1/m", "m#1/m#2")
    run.succeeds("m#1/m", value=1).expects("m#1/m#3").reopens().expects("m#1/m#2/2", "m#1/m#3/2")
    run.succeeds("m#1/m#3", value=3).succeeds("m#1/m#2", value=2).completes(items=[1, 2, 3], results=[1, 2, 3])


def test_what_was_made_anew_may_fail_as_often_as_ever() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").fails("a").waits_no_more("a").expects("a/2")
    run.reopens().expects("a/3").fails("a").schedules("a", 0.5).waits_no_more("a").expects("a/4").fails("a")
    run.breaks("error")


def test_what_was_made_anew_may_be_lost_as_often_as_ever() -> None:
    run = play(graph_of("start>a a>end")).expects("a")
    for number in range(2, 6):
        run.fails("a", AttemptStatus.LOST).waits_no_more("a").expects(f"a/{number}")
    run.reopens().expects("a/6").fails("a", AttemptStatus.LOST).schedules("a", 0.5)


def test_a_retry_that_was_waited_for_starts_at_once() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").fails("a").reopens().expects("a/2")
    run.told(events.RetryDue(next(iter(run.run.active)), 2)).does_nothing().fails("a").schedules("a", 0.5)


def test_what_waits_goes_on_waiting() -> None:
    run = play(graph_of("start>w start>a w>end a>end", waiting("w"))).expects("a").reopens().expects("a/2")
    run.has(WAITING, "w").succeeds("a").waits().receives("go", 1).completes(go=1)


def test_a_run_that_is_paused_is_reopened_and_holds_all() -> None:
    run = play(graph_of("start>a start>b a>end b>c c>end")).expects("a", "b").pauses().succeeds("b").reopens()
    run.expects().waits().has(RETRYING, "a", "c").unpauses().expects("a/2", "c")


def test_conditions_that_were_being_asked_are_asked_anew_and_nothing_is_committed_twice() -> None:
    graph = graph_of("start>w w>a? w>end! a>end", waiting("w"))
    run = play(graph).receives("go", 1).expects("w").reopens().expects("w/2").asks("w").succeeds("w", after=(False,))
    run.completes(go=1).commits("w")


def test_a_run_that_has_not_started_is_not_reopened() -> None:
    prepared(CHOICE).told(events.Reopened()).does_nothing().starts().expects("a")


def test_results_of_the_attempts_that_were_lost_are_ignored() -> None:
    run = play(graph_of("start>a a>end")).expects("a").reopens().expects("a/2")
    run.told(events.AttemptSucceeded(next(iter(run.run.active)), 1)).does_nothing().succeeds("a").completes()
