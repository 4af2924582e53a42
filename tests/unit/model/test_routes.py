"""Which nodes run: joins, conditions, dead paths, and how a run comes to its end."""

from __future__ import annotations

import pytest
from tests.unit.model.graphs import graph_of, plain
from tests.unit.model.playbook import play

from sandgraph.model.run import NodeRunStatus

DIAMOND = "start>a a>b a>c b>d c>d d>end"
CHOICE = "start>a a>b? a>c? a>d! b>e c>e d>e e>end"


def test_a_chain_runs_one_after_the_other() -> None:
    run = play(graph_of("start>a a>b b>end"), n=0).resolves("start>a").expects("a").sees("a", n=0)
    run.succeeds("a", {"n": 1}).resolves("a>b").expects("b").sees("b", n=1)
    run.succeeds("b", {"m": 2}).resolves("b>end").completes(n=1, m=2)


def test_a_diamond_joins_once() -> None:
    run = play(graph_of(DIAMOND)).expects("a").succeeds("a").expects("b", "c")
    run.succeeds("c", {"c": 1}).succeeds("b", {"b": 1}).expects("d").sees("d", b=1, c=1)
    run.succeeds("d").completes(b=1, c=1)


def test_branches_of_uneven_length_run_their_meeting_point_once() -> None:
    run = play(graph_of("start>a start>b b>c a>d c>d d>end")).expects("a", "b")
    run.succeeds("a").succeeds("b").expects("c").succeeds("c").expects("d").succeeds("d").completes()


def test_a_slow_branch_holds_nobody_up_before_the_join() -> None:
    run = play(graph_of("start>slow start>a a>b b>c slow>d c>d d>end")).expects("slow", "a")
    run.succeeds("a").expects("b").succeeds("b").expects("c").succeeds("c")
    run.succeeds("slow").expects("d").succeeds("d").completes()


def test_a_node_with_a_direct_edge_and_a_way_round_runs_once() -> None:
    run = play(graph_of("start>a a>c a>b b>c c>end")).expects("a").succeeds("a").expects("b")
    run.succeeds("b").expects("c").succeeds("c").completes()


def test_a_join_does_not_wait_for_a_parent_that_was_skipped() -> None:
    run = play(graph_of("start>a a>b? a>c? b>d c>d d>end")).expects("a")
    run.succeeds("a", after=(True, False)).skips("c").expects("b")
    run.succeeds("b").resolves("b>d").expects("d").succeeds("d").completes()


def test_a_join_whose_inputs_were_all_skipped_is_skipped_and_so_is_what_follows() -> None:
    run = play(graph_of("start>a a>b? a>c? b>d c>d d>e e>f a>end! f>end")).expects("a")
    run.succeeds("a", after=(False, False)).skips("b", "c", "d", "e", "f").completes()


def test_conditions_that_hold_are_all_taken() -> None:
    run = play(graph_of(CHOICE)).expects("a").succeeds("a", after=(True, True)).expects("b", "c").skips("d")
    run.succeeds("b").succeeds("c").expects("e").succeeds("e").completes()


def test_the_default_edge_is_taken_when_no_other_is() -> None:
    run = play(graph_of(CHOICE)).expects("a").succeeds("a", after=(False, False)).expects("d").skips("b", "c")
    run.succeeds("d").expects("e").succeeds("e").completes()


def test_the_default_edge_is_not_taken_beside_another() -> None:
    run = play(graph_of(CHOICE)).expects("a").succeeds("a", after=(True, False)).expects("b").skips("c", "d")
    run.succeeds("b").expects("e").succeeds("e").completes()


def test_the_default_edge_beside_one_without_condition_is_never_taken() -> None:
    play(graph_of("start>a a>b! a>end b>end")).expects("a").succeeds("a").skips("b").completes()


def test_a_default_edge_alone_is_taken() -> None:
    play(graph_of("start>a a>end!")).expects("a").succeeds("a").completes()


def test_an_edge_without_condition_is_taken_beside_one_whose_condition_holds() -> None:
    run = play(graph_of("start>a a>b? a>c b>end c>end")).expects("a").succeeds("a", after=(True,)).expects("b", "c")
    run.succeeds("b").succeeds("c").completes()


def test_answers_that_are_missing_are_no() -> None:
    run = play(graph_of(CHOICE)).expects("a").succeeds("a", after=()).expects("d").skips("b", "c")
    run.cancelled().stops()


def test_where_no_edge_holds_the_run_never_succeeds() -> None:
    run = play(graph_of("start>a a>b? b>end")).expects("a")
    run.succeeds("a", {"kept": 1}, after=(False,)).breaks("end_not_reached", "'a'", kept=1)
    assert run.ledger.with_status(NodeRunStatus.SKIPPED) == {"b", "end"}


def test_every_node_where_the_run_stopped_is_named() -> None:
    run = play(graph_of("start>a start>b a>end? b>end?")).expects("a", "b")
    run.succeeds("b", after=(False,)).succeeds("a", after=(False,)).breaks("end_not_reached", "'a' and 'b'")


def test_one_branch_that_stops_does_not_keep_another_from_the_end() -> None:
    run = play(graph_of("start>a start>b a>end b>c? c>end")).expects("a", "b")
    run.succeeds("b", {"b": 1}, after=(False,)).skips("c").succeeds("a", {"a": 1}).completes(a=1)


def test_what_does_not_lead_to_an_end_is_no_part_of_the_final_state() -> None:
    run = play(graph_of("start>a start>notify a>end")).expects("a", "notify")
    run.succeeds("a", {"a": 1}).succeeds("notify", {"sent": True}).completes(a=1)


def test_several_ends_are_merged_in_the_graphs_order() -> None:
    run = play(graph_of("start>a start>b b>end2 a>end1")).expects("a", "b")
    run.succeeds("b", {"b": 1}).succeeds("a", {"a": 1}).completes(a=1, b=1)


def test_an_end_that_was_skipped_is_not_waited_for() -> None:
    play(graph_of("start>a a>end1? a>end2?")).expects("a").succeeds("a", {"n": 1}, after=(False, True)).completes(n=1)


def test_a_graph_without_ends_ends_where_no_edge_leads_on() -> None:
    run = play(graph_of("start>a start>b")).expects("a", "b")
    run.succeeds("b", {"b": 1}).succeeds("a", {"a": 1}).completes(a=1, b=1)


def test_a_graph_without_ends_does_not_end_where_no_condition_held() -> None:
    run = play(graph_of("start>a a>b?")).expects("a")
    run.succeeds("a", {"a": 1}, after=(False,)).breaks("end_not_reached", "'a'", a=1)


@pytest.mark.parametrize("name", ["start", "end", "only"])
def test_a_graph_of_one_node_without_function_is_over_at_once(name: str) -> None:
    play(graph_of(name, plain("only"), start_node=name), n=1).completes(n=1)


def test_a_graph_of_one_node_runs_its_function() -> None:
    play(graph_of("only", start_node="only")).expects("only").succeeds("only", {"n": 1}).completes(n=1)


def test_a_run_may_start_at_any_node_without_a_node_of_type_start() -> None:
    play(graph_of("a>b b>end", start_node="a")).expects("a").succeeds("a").expects("b").succeeds("b").completes()


def test_nodes_without_function_join_and_route_without_an_attempt() -> None:
    run = play(graph_of("start>fork fork>a fork>b a>join b>join join>c c>end", plain("fork"), plain("join")))
    run.expects("a", "b").succeeds("a").succeeds("b").expects("c").succeeds("c").completes()
    assert {"fork", "join"} <= run.ledger.with_status(NodeRunStatus.SUCCEEDED)


def test_conditions_of_a_node_without_function_are_asked_in_an_attempt_that_commits_nothing() -> None:
    run = play(graph_of("start>a start>end? a>fork fork>b? fork>end! b>end", plain("fork")), n=0)
    run.expects("start").sees("start", n=0).succeeds("start", {"forged": 1}, after=(False,)).expects("a")
    run.succeeds("a", {"n": 1}).expects("fork").sees("fork", n=1)
    run.succeeds("fork", {"forged": 1}, after=(True,)).expects("b").sees("b", n=1).succeeds("b").completes(n=1)
    assert [str(commit.key) for commit in run.ledger.commits.values()] == ["a", "b"]


def test_steps_are_bounded_and_start_end_and_skipped_nodes_cost_none() -> None:
    graph = graph_of("start>a a>b? a>c b>end c>end", max_steps=2)
    play(graph).expects("a").succeeds("a", after=(False,)).expects("c").succeeds("c").completes()
    run = play(graph).expects("a").succeeds("a", {"n": 1}, after=(True,)).expects("b")
    run.breaks("max_steps_exceeded", "2 steps", "'c'", n=1)
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == {"b"}
