"""Edges that are taken when their source failed, took too long, or was skipped."""

from __future__ import annotations

import pytest
from tests.unit.model.graphs import graph_of, loop, plain, tried
from tests.unit.model.playbook import play

from sandgraph.model.commands import RecordNodeRun
from sandgraph.model.graph import OnMax
from sandgraph.model.run import AttemptStatus, NodeRunStatus
from sandgraph.model.topology import analyse

HANDLED = "start>a a>b b>end b>alarm^ft alarm>end"


def test_a_failure_with_an_edge_for_it_does_not_fail_the_run() -> None:
    run = play(graph_of(HANDLED)).expects("a").succeeds("a", {"a": 1}).expects("b")
    run.fails("b").resolves("b-end", "b>alarm").expects("alarm").sees("alarm", a=1)
    run.succeeds("alarm", {"rang": True}).completes(a=1, rang=True)
    assert run.ledger.with_status(NodeRunStatus.FAILED) == {"b"}


def test_the_edge_is_skipped_on_success() -> None:
    run = play(graph_of(HANDLED)).expects("a").succeeds("a").expects("b")
    run.succeeds("b", {"b": 1}).resolves("b>end", "b-alarm", "alarm-end").skips("alarm").completes(b=1)


def test_the_failure_is_told_with_the_node_run() -> None:
    run = play(graph_of(HANDLED)).expects("a").succeeds("a").expects("b").fails("b").expects("alarm")
    (told,) = (each for each in run.commands if isinstance(each, RecordNodeRun) and each.failure)
    assert (str(told.key), told.failure and told.failure.message) == ("b", "It broke.")


def test_only_what_failed_for_good_takes_the_edge() -> None:
    run = play(graph_of("start>a a>end a>b^f b>end", tried("a", 2, initial_s=1))).expects("a").fails("a")
    run.schedules("a", 1).waits_no_more("a").expects("a/2").fails("a").resolves("a-end", "a>b").expects("b")
    run.succeeds("b").completes()


@pytest.mark.parametrize(("edge", "status"), [("a>b^f", AttemptStatus.TIMEOUT), ("a>b^t", AttemptStatus.OOM)])
def test_a_failure_of_another_kind_fails_the_run(edge: str, status: AttemptStatus) -> None:
    play(graph_of(f"start>a a>end {edge} b>end")).expects("a").fails("a", status).breaks(status)


def test_a_timeout_takes_an_edge_of_its_own() -> None:
    run = play(graph_of("start>a a>end a>b^f a>c^t b>end c>end")).expects("a").fails("a", AttemptStatus.TIMEOUT)
    run.resolves("a-end", "a-b", "a>c", "b-end").skips("b").expects("c").succeeds("c").completes()


def test_an_edge_for_success_and_failure_goes_on_in_any_case() -> None:
    graph = graph_of("start>a a>end^sf")
    play(graph).expects("a").succeeds("a", {"n": 1}).completes(n=1)
    play(graph, n=0).expects("a").fails("a").completes(n=0)


def test_several_edges_are_taken_on_one_failure() -> None:
    run = play(graph_of("start>a a>b^f a>c^ft a>end b>end c>end")).expects("a").fails("a").expects("b", "c")
    run.succeeds("c", {"c": 1}).succeeds("b", {"b": 1}).completes(b=1, c=1)


def test_a_failure_in_one_branch_that_is_handled_leaves_the_other_alone() -> None:
    run = play(graph_of("start>a start>b a>h^f h>j a>j b>j j>end")).expects("a", "b").fails("a").expects("h")
    run.succeeds("h", {"h": 1}).succeeds("b", {"b": 1}).expects("j").sees("j", h=1, b=1).succeeds("j")
    run.completes(h=1, b=1)


def test_a_handler_that_fails_fails_the_run() -> None:
    run = play(graph_of(HANDLED)).expects("a").succeeds("a").expects("b").fails("b").expects("alarm")
    run.fails("alarm").breaks("error")


def test_the_attempt_of_a_node_that_only_asks_conditions_may_fail_too() -> None:
    run = play(graph_of("start>r r>a? r>b^f a>end b>end", plain("r"))).expects("r").fails("r").skips("a").expects("b")
    run.succeeds("b").completes()


def test_without_ends_a_node_that_only_a_failure_leaves_is_an_end() -> None:
    graph = graph_of("a>b^f", start_node="a")
    play(graph).expects("a").succeeds("a", {"n": 1}).skips("b").completes(n=1)
    play(graph).expects("a").fails("a").expects("b").succeeds("b", {"b": 1}).completes(b=1)


# Loops


def test_a_loop_node_keeps_the_iterations_before_the_one_that_failed() -> None:
    run = play(graph_of("start>a a>end a>b^f b>end", loop("a", 3, None))).expects("a").succeeds("a", {"n": 1})
    run.expects("a#2").fails("a#2").expects("b").sees("b", n=1).succeeds("b").completes(n=1)


def test_a_loop_that_reached_its_bound_has_failed() -> None:
    graph = graph_of("start>a a>end a>b^f b>end", loop("a", 1, on_max=OnMax.FAIL))
    run = play(graph).expects("a").succeeds("a", {"n": 1}, again=True).expects("b").sees("b", n=1)
    assert "still holds" in run.ledger.messages[run.commands[0].key]  # type: ignore[union-attr, index]
    run.succeeds("b").completes(n=1)


def test_a_failure_in_a_cycle_is_handled_in_it() -> None:
    run = play(graph_of("start>h h>b h>end? b>h b>fix^f fix>h")).expects("h").succeeds("h", after=(False,))
    run.expects("b").fails("b").expects("fix").succeeds("fix", {"fixed": 1}).expects("h#2").sees("h#2", fixed=1)
    run.succeeds("h#2", after=(True,)).expects("b#2").succeeds("b#2").skips("fix#2").expects("h#3").cancelled()


def test_a_handler_behind_a_cycle_waits_for_its_end() -> None:
    run = play(graph_of("start>h h>a h>b a>alarm^f a>h? b>h? b>end! alarm>end")).expects("h").succeeds("h")
    run.expects("a", "b").fails("a").succeeds("b", {"b": 1}, after=(True,)).expects("h#2").sees("h#2", b=1)
    run.succeeds("h#2").expects("a#2", "b#2").succeeds("a#2", after=(False,)).succeeds("b#2", after=(False,))
    run.expects("alarm").sees("alarm").succeeds("alarm", {"rang": 1}).completes(b=1, rang=1)


def test_a_cycle_is_closed_by_success_only() -> None:
    for edge in ("b>h^f", "b>h^sf", "b>h^k"):
        found = analyse(graph_of(f"start>h h>b {edge} b>end"))
        assert isinstance(found, list)
        assert [(problem.path, problem.code) for problem in found] == [("edges[2].on", "on_with_back_edge")]


# What was skipped


def test_something_else_is_done_where_a_node_was_skipped() -> None:
    run = (
        play(graph_of("start>a a>b? b>end a>c b>d^k c>end d>end")).expects("a").succeeds("a", {"a": 1}, after=(False,))
    )
    run.skips("b").resolves("a-b", "a>c", "b-end", "b>d").expects("c", "d").sees("d", a=1)
    run.succeeds("d", {"d": 1}).succeeds("c", {"c": 1}).completes(a=1, c=1, d=1)


def test_it_is_not_done_where_the_node_ran() -> None:
    run = play(graph_of("start>a a>b? a>end! b>end b>d^k d>end")).expects("a").succeeds("a", after=(True,)).expects("b")
    run.succeeds("b", {"b": 1}).skips("d").completes(b=1)


def test_it_sees_what_all_those_did_that_decided_so() -> None:
    run = play(graph_of("start>p start>q p>x? q>x? x>y y>z^k z>end x>end")).expects("p", "q")
    run.succeeds("p", {"p": 1}, after=(False,)).succeeds("q", {"q": 1}, after=(False,)).skips("x", "y").expects("z")
    run.sees("z", p=1, q=1).succeeds("z").completes(p=1, q=1)


def test_where_those_disagree_the_run_fails() -> None:
    run = play(graph_of("start>p start>q p>x? q>x? x>z^k z>end x>end")).expects("p", "q")
    run.succeeds("p", {"n": 1}, after=(False,)).succeeds("q", {"n": 2}, after=(False,))
    run.breaks("state_conflict", "'p' and 'q'", "'x'", n=2)


def test_a_cycle_that_was_skipped_may_be_answered() -> None:
    run = play(graph_of("start>a a>h? h>b b>h? b>end! h>c^k c>end", plain("c"))).expects("a")
    run.succeeds("a", {"a": 1}, after=(False,)).skips("h", "b").completes(a=1)


def test_no_cycle_goes_round_on_what_was_skipped() -> None:
    # From h nothing is ever asked, and x, which has a function, never runs.
    graph = graph_of("start>h h>b h>x! x>y^k y>h b>end", plain("h"), plain("y"))
    found = analyse(graph)
    assert isinstance(found, list)
    assert [problem.code for problem in found] == ["unbounded_loop"]
