"""Graphs that finish what does not depend on a node that failed."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.model.graphs import graph_of, loop, plain
from tests.unit.model.playbook import Playbook, play

from sandgraph.model.commands import RecordNodeRun
from sandgraph.model.graph import Node, OnError, OnMax
from sandgraph.model.run import NodeRunStatus
from sandgraph.model.state import Json


def finish(edges: str, *nodes: Node, **state: Json) -> Playbook:
    return play(replace(graph_of(edges, *nodes), on_error=OnError.FINISH), **state)


def passed_over(run: Playbook) -> dict[str, str]:
    """What the last step skipped, with what it said of that."""
    found = [each for each in run.commands if isinstance(each, RecordNodeRun)]
    return {str(each.key): each.message for each in found if each.status is NodeRunStatus.SKIPPED}


def test_the_other_branch_runs_to_its_end_and_its_commits_stay() -> None:
    run = finish("start>a start>b b>c a>end1 c>end2").expects("a", "b").fails("a").resolves("a-end1")
    run.succeeds("b", {"b": 1}).expects("c").sees("c", b=1).succeeds("c", {"c": 1}).breaks("error", b=1, c=1)
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == set()


def test_a_join_that_depends_on_the_failure_does_not_start() -> None:
    run = finish("start>a start>b a>j b>j j>k k>end").expects("a", "b").fails("a")
    run.succeeds("b", {"b": 1}).resolves("b>j", "j-k", "k-end").breaks("error", b=1)
    assert passed_over(run) == dict.fromkeys(["j", "k", "end"], "It depends on 'a', which failed.")


def test_an_edge_on_skipped_is_not_taken_for_what_could_not_start() -> None:
    run = finish("start>a start>b a>c c>d^k b>end d>end c>end").expects("a", "b").fails("a")
    assert set(passed_over(run)) == {"c", "d"}
    run.succeeds("b").breaks("error")


def test_of_several_failures_the_first_is_the_runs() -> None:
    run = finish("start>a start>b a>end b>end").expects("a", "b").fails("b").fails("a").breaks("error")
    assert run.ledger.outcome is not None
    assert run.ledger.outcome.failure is not None
    assert run.ledger.outcome.failure.node == "b"


def test_a_failure_that_is_handled_is_none_of_the_runs() -> None:
    run = finish("start>a a>end a>b^f b>end").expects("a").fails("a").expects("b").succeeds("b").completes()
    assert run.ledger.with_status(NodeRunStatus.FAILED) == {"a"}


def test_branches_that_disagree_leave_others_alone() -> None:
    run = finish("start>a start>b start>c a>j b>j j>end c>d d>end").expects("a", "b", "c")
    run.succeeds("a", {"n": 1}).succeeds("b", {"n": 2}).skips("j").succeeds("c").expects("d")
    run.succeeds("d", {"d": 1}).breaks("state_conflict", "'a' and 'b'", d=1, n=2)


def test_those_that_decided_against_a_node_may_disagree_too() -> None:
    run = finish("start>p start>q p>x? q>x? x>z^k z>end x>end start>c c>end").expects("p", "q", "c")
    run.succeeds("p", {"n": 1}, after=(False,)).succeeds("q", {"n": 2}, after=(False,)).skips("x", "z")
    run.succeeds("c").breaks("state_conflict", n=2)


def test_a_loop_that_reached_its_bound_fails_alone() -> None:
    run = finish("start>a start>b a>end b>end", loop("a", 1, on_max=OnMax.FAIL)).expects("a", "b")
    run.succeeds("a", again=True).succeeds("b", {"b": 1}).breaks("max_iterations_reached", b=1)


def test_a_cycle_in_which_something_failed_goes_round_no_more_and_nothing_behind_it_starts() -> None:
    run = finish("start>h h>a h>b a>h? b>h a>end b>alarm^t alarm>end").expects("h").succeeds("h").expects("a", "b")
    run.succeeds("a", {"a": 1}, after=(True,)).fails("b").resolves("a-h", "b-h", "a-end", "b-alarm", "alarm-end")
    run.skips("alarm", "end").breaks("error", a=1)


def test_an_inner_cycle_ends_those_around_it() -> None:
    run = finish("start>o o>h h>b b>h? b>o! o>end?").expects("o").succeeds("o", after=(False,)).expects("h")
    run.succeeds("h").expects("b").succeeds("b", after=(True,)).expects("h#2").fails("h#2").skips("b#2", "end")
    run.breaks("error")


def test_a_back_edge_on_which_branches_disagree_ends_the_cycle() -> None:
    run = finish("start>h h>a h>b a>h b>h h>end?").expects("h").succeeds("h", after=(True,)).expects("a", "b")
    run.succeeds("a", {"n": 1}).succeeds("b", {"n": 2}).skips("h#2", "a#2", "b#2", "end")
    run.breaks("state_conflict", n=2)


def test_steps_are_bounded_all_the_same() -> None:
    graph = replace(graph_of("start>a start>b b>c a>end c>end", max_steps=2), on_error=OnError.FINISH)
    play(graph).expects("a", "b").fails("a").succeeds("b").breaks("max_steps_exceeded")


def test_a_cancel_wins() -> None:
    run = finish("start>a start>b a>end b>end").expects("a", "b").fails("a").cancelled().stops()
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == {"b"}


def test_nodes_without_function_are_passed_over_too() -> None:
    run = finish("start>a start>b a>j b>j j>end", plain("j")).expects("a", "b").succeeds("b").fails("a")
    run.skips("j", "end").breaks("error")
