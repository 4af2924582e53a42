"""Joins that start with the first of their inputs, and what becomes of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.model.graphs import graph_of, loop, plain, tried
from tests.unit.model.playbook import Playbook, play

from sandgraph.model import events
from sandgraph.model.graph import Node, OnError
from sandgraph.model.run import AttemptStatus, NodeRunStatus
from sandgraph.model.topology import analyse

CANCELLED, SKIPPED = NodeRunStatus.CANCELLED, NodeRunStatus.SKIPPED
RACE = "start>a start>b start>c a>j b>j c>j j>end"


def awaiting(name: str, join: int) -> Node:
    return Node(name, function=name, join=join)


def test_the_first_that_comes_wins_and_the_others_are_cancelled() -> None:
    run = play(graph_of(RACE, awaiting("j", 1))).expects("a", "b", "c").succeeds("b", {"b": 1})
    run.resolves("b>j", "a-j", "c-j").expects("j").sees("j", b=1)
    assert run.ledger.with_status(CANCELLED) == {"a", "c"}
    run.succeeds("j", {"j": 1}).completes(b=1, j=1)


def test_it_is_the_same_whoever_wins() -> None:
    for winner in "abc":
        run = play(graph_of(RACE, awaiting("j", 1))).expects("a", "b", "c").succeeds(winner, {"n": winner})
        run.expects("j").sees("j", n=winner).succeeds("j").completes(n=winner)


def test_a_count_of_inputs() -> None:
    run = play(graph_of(RACE, awaiting("j", 2))).expects("a", "b", "c").succeeds("c", {"c": 1}).resolves("c>j")
    run.succeeds("a", {"a": 1}).resolves("a>j", "b-j").expects("j").sees("j", a=1, c=1)
    assert run.ledger.with_status(CANCELLED) == {"b"}
    run.succeeds("j").completes(a=1, c=1)


def test_a_count_of_all_inputs_is_a_join_of_all() -> None:
    run = play(graph_of(RACE, awaiting("j", 3))).expects("a", "b", "c").succeeds("c").succeeds("a").succeeds("b")
    run.expects("j").succeeds("j").completes()


def test_where_fewer_come_it_runs_over_those() -> None:
    run = play(graph_of("start>a a>b? a>c? a>d? b>j c>j d>j j>end", awaiting("j", 2))).expects("a")
    run.succeeds("a", after=(False, True, False)).skips("b", "d").expects("c").succeeds("c", {"c": 1})
    run.expects("j").sees("j", c=1).succeeds("j").completes(c=1)


def test_where_none_comes_it_is_skipped() -> None:
    run = play(graph_of("start>a a>b? a>c? b>j c>j j>end a>end!", awaiting("j", 1))).expects("a")
    run.succeeds("a", after=(False, False)).skips("b", "c", "j").completes()


def test_an_input_that_is_skipped_is_not_the_first() -> None:
    run = play(graph_of("start>a start>b a>x? x>j b>j j>end", awaiting("j", 1))).expects("a", "b")
    run.succeeds("a", after=(False,)).skips("x").succeeds("b").expects("j").succeeds("j").completes()


def test_branches_of_uneven_length_race_as_a_whole() -> None:
    run = play(graph_of("start>a a>b b>c c>j start>d d>j j>end", awaiting("j", 1))).expects("a", "d").succeeds("a")
    run.expects("b").succeeds("d", {"d": 1}).resolves("d>j", "b-c", "c-j").skips("c").expects("j")
    assert run.ledger.with_status(CANCELLED) == {"b"}
    run.succeeds("j").completes(d=1)


def test_what_leads_elsewhere_too_goes_on_and_counts_no_more_here() -> None:
    run = play(graph_of("start>a start>b a>j b>j b>k j>end k>end", awaiting("j", 1))).expects("a", "b").succeeds("a")
    run.expects("j").succeeds("b", {"b": 1}).resolves("b-j", "b>k").expects("k").succeeds("k").succeeds("j")
    run.completes(b=1)


def test_what_leads_to_two_joins_is_cancelled_with_the_second() -> None:
    graph = graph_of("start>a start>b start>c a>j b>j b>k c>k j>end k>end", awaiting("j", 1), awaiting("k", 1))
    run = play(graph).expects("a", "b", "c").succeeds("a").expects("j")
    assert run.ledger.with_status(CANCELLED) == set()
    run.succeeds("c").resolves("c>k", "b-j", "b-k").expects("k")
    assert run.ledger.with_status(CANCELLED) == {"b"}
    run.succeeds("j").succeeds("k").completes()


def test_one_that_waits_for_its_retry_is_given_up() -> None:
    run = play(graph_of("start>a start>b a>j b>j j>end", awaiting("j", 1), tried("a", 3))).expects("a", "b").fails("a")
    run.succeeds("b").expects("j").succeeds("j").completes()
    assert run.ledger.with_status(CANCELLED) == {"a"}


def test_an_all_join_on_the_way_to_one_that_started_does_not_begin() -> None:
    run = play(graph_of("start>a start>b start>c a>m b>m m>j c>j j>end", awaiting("j", 1))).expects("a", "b", "c")
    run.succeeds("a", {"n": 1}).succeeds("c").skips("m").expects("j").succeeds("j").completes()
    assert run.ledger.with_status(CANCELLED) == {"b"}


def test_those_that_were_given_up_cannot_disagree() -> None:
    run = play(graph_of("start>a start>b start>d start>c a>m b>m d>m m>j c>j j>end", awaiting("j", 1)))
    run.expects("a", "b", "d", "c").succeeds("a", {"n": 1}).succeeds("b", {"n": 2}).succeeds("c", {"c": 1})
    run.expects("j").sees("j", c=1).succeeds("j").completes(c=1)


def test_nothing_is_done_instead_of_what_was_given_up() -> None:
    run = play(graph_of("start>a start>b a>x x>y^k y>j b>j j>end", awaiting("j", 1))).expects("a", "b")
    run.succeeds("b").skips("x", "y").expects("j").succeeds("j").completes()


def test_several_winners_may_disagree() -> None:
    run = play(graph_of(RACE, awaiting("j", 2))).expects("a", "b", "c").succeeds("a", {"n": 1})
    run.succeeds("b", {"n": 2}).breaks("state_conflict", "'a' and 'b'", n=2)


def test_a_join_without_function_may_be_the_goal() -> None:
    run = play(graph_of(RACE, Node("j", join=1))).expects("a", "b", "c").succeeds("a", {"a": 1}).completes(a=1)
    assert run.ledger.with_status(CANCELLED) == {"b", "c"}


def test_a_result_that_comes_too_late_changes_nothing() -> None:
    run = play(graph_of(RACE, awaiting("j", 1))).expects("a", "b", "c")
    late = run.ledger.running[next(key for key in run.run.active if key.node == "c")]
    run.succeeds("a").expects("j")
    run.told(events.AttemptSucceeded(late.key, late.attempt)).does_nothing()


# Failures


def test_a_failure_of_one_that_might_have_won_fails_the_run() -> None:
    play(graph_of(RACE, awaiting("j", 1))).expects("a", "b", "c").fails("a").breaks("error")


def test_a_failure_that_is_handled_leaves_the_race_to_the_others() -> None:
    graph = graph_of("start>a start>b a>j b>j a>lost^ft j>end", awaiting("j", 1), plain("lost"))
    run = play(graph).expects("a", "b").fails("a", AttemptStatus.TIMEOUT).resolves("a-j", "a>lost").succeeds("b")
    run.expects("j").succeeds("j").completes()


def test_a_run_that_finishes_starts_a_join_without_the_one_that_failed() -> None:
    graph = replace(graph_of(RACE, awaiting("j", 2)), on_error=OnError.FINISH)
    run = play(graph).expects("a", "b", "c").fails("a").succeeds("b", {"b": 1}).succeeds("c", {"c": 1}).expects("j")
    run.succeeds("j", {"j": 1}).breaks("error", b=1, c=1, j=1)


def test_but_not_if_too_few_are_left() -> None:
    graph = replace(graph_of(RACE, awaiting("j", 3)), on_error=OnError.FINISH)
    play(graph).expects("a", "b", "c").fails("a").succeeds("b").succeeds("c").skips("j", "end").breaks("error")


# Loops


def test_a_cycle_that_can_only_lead_to_the_join_is_cancelled() -> None:
    run = play(graph_of("start>h h>b b>h? b>j! start>c c>j j>end", awaiting("j", 1))).expects("h", "c").succeeds("h")
    run.expects("b").succeeds("b", after=(True,)).expects("h#2").succeeds("c", {"c": 1}).skips("b#2").expects("j")
    assert run.ledger.with_status(CANCELLED) == {"h#2"}
    run.succeeds("j").completes(c=1)


def test_a_cycle_may_win() -> None:
    run = play(graph_of("start>h h>h? h>j! start>c c>j j>end", awaiting("j", 1))).expects("h", "c")
    run.succeeds("h", after=(True,)).expects("h#2").succeeds("h#2", {"h": 2}, after=(False,)).expects("j")
    run.sees("j", h=2).succeeds("j").completes(h=2)


def test_a_loop_node_is_cancelled_between_its_iterations() -> None:
    run = play(graph_of("start>a start>c a>j c>j j>end", loop("a", 5, None), awaiting("j", 1))).expects("a", "c")
    run.succeeds("a").expects("a#2").succeeds("c").expects("j").succeeds("j").completes()
    assert run.ledger.with_status(CANCELLED) == {"a#2"}


def playing_in_a_cycle() -> Playbook:
    graph = graph_of("start>h h>a h>b a>j b>j j>h? j>end!", awaiting("j", 1))
    return play(graph).expects("h").succeeds("h").expects("a", "b")


def test_each_iteration_of_a_cycle_has_a_race_of_its_own() -> None:
    run = playing_in_a_cycle().succeeds("b", {"b": 1}).expects("j").succeeds("j", after=(True,)).expects("h#2")
    run.sees("h#2", b=1).succeeds("h#2").expects("a#2", "b#2").succeeds("a#2", {"a": 2}).expects("j#2")
    run.sees("j#2", a=2, b=1).succeeds("j#2", after=(False,)).completes(a=2, b=1)
    assert run.ledger.with_status(CANCELLED) == {"a", "b#2"}


def test_an_iteration_waits_for_what_was_not_cancelled() -> None:
    graph = graph_of("start>h h>a h>b a>j b>j b>k j>h? j>end! k>h", awaiting("j", 1))
    run = play(graph).expects("h").succeeds("h").expects("a", "b").succeeds("a").expects("j")
    run.succeeds("j", after=(True,)).succeeds("b").resolves("b-j", "b>k").expects("k").succeeds("k", {"k": 1})
    run.expects("h#2").sees("h#2", k=1).cancelled()


def test_a_cycle_is_entered_with_the_first_and_goes_round_as_ever() -> None:
    run = play(graph_of("start>a start>b a>h b>h h>h? h>end!", awaiting("h", 1))).expects("a", "b")
    run.succeeds("a", {"a": 1}).resolves("a>h", "b-h").expects("h").succeeds("h", after=(True,)).expects("h#2")
    run.sees("h#2", a=1).succeeds("h#2", after=(False,)).completes(a=1)
    assert run.ledger.with_status(CANCELLED) == {"b"}


def test_what_comes_late_to_a_cycle_does_not_enter_it_again() -> None:
    run = play(graph_of("start>a start>b a>h b>h b>k h>h? h>end! k>end", awaiting("h", 1))).expects("a", "b")
    run.succeeds("a").expects("h").succeeds("h", after=(True,)).expects("h#2")
    run.succeeds("b").resolves("b-h", "b>k").expects("k").succeeds("h#2", after=(False,)).succeeds("k").completes()


def test_a_cycle_with_a_race_in_it_is_cancelled_as_a_whole() -> None:
    edges = "start>h h>a h>b a>m b>m m>h? m>j! start>c c>j j>end"
    run = play(graph_of(edges, awaiting("m", 1), awaiting("j", 1))).expects("h", "c").succeeds("h").expects("a", "b")
    run.succeeds("a").expects("m").succeeds("c", {"c": 1}).expects("j")
    assert run.ledger.with_status(CANCELLED) == {"b", "m"}
    run.succeeds("j").completes(c=1)


@pytest.mark.parametrize(("edges", "name", "join"), [("start>a a>end", "a", 2), ("start>h h>h? h>end!", "h", 2)])
def test_a_join_cannot_wait_for_more_than_it_has(edges: str, name: str, join: int) -> None:
    found = analyse(graph_of(edges, awaiting(name, join)))
    assert isinstance(found, list)
    assert [(problem.path, problem.code) for problem in found] == [("nodes[1].join", "too_few_inputs")]
