"""Loop nodes: a body, a condition, a bound."""

from __future__ import annotations

import pytest
from tests.unit.model.graphs import graph_of, loop
from tests.unit.model.playbook import Playbook, play

from sandgraph.model.graph import Node, OnMax
from sandgraph.model.run import NodeRunStatus


def begin(node: Node) -> Playbook:
    return play(graph_of(f"start>{node.name} {node.name}>end", node), n=0)


def test_each_iteration_is_a_node_run_over_what_the_one_before_made() -> None:
    run = begin(loop("a", 10)).expects("a").succeeds("a", {"n": 1}, again=True).expects("a#2").sees("a#2", n=1)
    run.succeeds("a#2", {"n": 2}, again=True).expects("a#3").sees("a#3", n=2)
    run.succeeds("a#3", {"n": 3}, again=False).completes(n=3)


def test_a_condition_that_does_not_hold_at_entry_means_no_iteration() -> None:
    run = begin(loop("a", 10)).expects("a").succeeds("a", {"n": 9}, entered=False).completes(n=0)
    assert run.ledger.with_status(NodeRunStatus.SUCCEEDED) == {"start", "a", "end"}
    assert "no iteration" in next(message for key, message in run.ledger.messages.items() if str(key) == "a")
    assert not run.ledger.commits


def test_the_condition_is_asked_before_the_first_iteration_only() -> None:
    run = begin(loop("a", 3)).expects("a")
    assert run.ledger.running.popitem()[1].is_entry
    run = begin(loop("a", 3)).expects("a").succeeds("a", again=True).expects("a#2")
    assert not run.ledger.running.popitem()[1].is_entry


def test_only_the_last_iteration_is_told_so() -> None:
    run = begin(loop("a", 2)).expects("a")
    assert not run.ledger.running.copy().popitem()[1].is_last
    run.succeeds("a", again=True).expects("a#2")
    assert run.ledger.running.copy().popitem()[1].is_last


def test_other_nodes_are_neither_entered_nor_at_their_last() -> None:
    start = play(graph_of("start>a a>end")).expects("a").ledger.running.popitem()[1]
    assert not start.is_entry
    assert not start.is_last


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_loop_that_reaches_its_bound_goes_on_behind_it(most: int) -> None:
    run = begin(loop("a", most)).expects("a")
    for n in range(2, most + 1):
        run.succeeds(f"a#{n - 1}" if n > 2 else "a", again=True).expects(f"a#{n}")
    run.succeeds(f"a#{most}" if most > 1 else "a", {"n": most}, again=True).completes(n=most)


def test_a_loop_may_fail_at_its_bound_if_its_condition_holds_still() -> None:
    run = begin(loop("a", 2, on_max=OnMax.FAIL)).expects("a").succeeds("a", again=True).expects("a#2")
    run.succeeds("a#2", {"n": 2}, again=True).breaks("max_iterations_reached", "'a'", "2 times", "go", n=2)


def test_a_loop_that_may_fail_does_not_if_its_condition_no_longer_holds() -> None:
    run = begin(loop("a", 2, on_max=OnMax.FAIL)).expects("a").succeeds("a", again=True).expects("a#2")
    run.succeeds("a#2", again=False).completes(n=0)


@pytest.mark.parametrize("on_max", OnMax)
def test_a_loop_without_condition_counts(on_max: OnMax) -> None:
    run = begin(loop("a", 2, condition=None, on_max=on_max)).expects("a").succeeds("a", {"n": 1}).expects("a#2")
    run.succeeds("a#2", {"n": 2}).completes(n=2)


def test_the_edges_of_a_loop_are_asked_when_it_ends() -> None:
    run = play(graph_of("start>a a>b? a>c! b>end c>end", loop("a", 5))).expects("a")
    run.succeeds("a", again=True, after=(True,)).expects("a#2")
    run.succeeds("a#2", again=False, after=(False,)).expects("c").skips("b").succeeds("c").completes()


def test_in_a_cycle_the_bound_counts_from_each_entry() -> None:
    run = play(graph_of("start>a a>b b>a? b>end!", loop("a", 2))).expects("a")
    run.succeeds("a", again=True).expects("a#2").succeeds("a#2", again=True).expects("b")
    run.succeeds("b", after=(True,)).expects("a#3").succeeds("a#3", again=True).expects("a#4")
    run.succeeds("a#4", again=True).expects("b#2").succeeds("b#2", after=(False,)).completes()


def test_a_loop_that_is_entered_again_asks_its_condition_again() -> None:
    run = play(graph_of("start>a a>a? a>end!", loop("a", 2))).expects("a").succeeds("a", again=False, after=(True,))
    run.expects("a#2")
    assert run.ledger.running.copy().popitem()[1].is_entry
    run.succeeds("a#2", entered=False, after=(False,)).completes()


def test_iterations_count_as_steps() -> None:
    run = play(graph_of("start>a a>end", loop("a", 10), max_steps=2)).expects("a").succeeds("a", again=True)
    run.expects("a#2").succeeds("a#2", {"n": 2}, again=True).breaks("max_steps_exceeded", "'a'", n=2)
