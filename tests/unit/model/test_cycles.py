"""Cycles of ordinary edges: iterations, what is inside them, and the edges that leave them."""

from __future__ import annotations

from tests.unit.model.graphs import graph_of, plain
from tests.unit.model.playbook import play

WHILE = "start>h h>b? h>end! b>h"


def test_a_cycle_runs_its_nodes_once_an_iteration() -> None:
    run = play(graph_of(WHILE)).expects("h").succeeds("h", after=(True,)).expects("b")
    run.succeeds("b", {"n": 1}).expects("h#2").sees("h#2", n=1).succeeds("h#2", after=(True,)).expects("b#2")
    run.succeeds("b#2", {"n": 2}).expects("h#3").succeeds("h#3", after=(False,)).skips("b#3").completes(n=2)


def test_the_edges_of_a_cycle_resolve_anew_in_each_iteration_and_those_that_leave_it_once() -> None:
    run = (
        play(graph_of(WHILE)).resolves("start>h").expects("h").succeeds("h", after=(True,)).resolves("h>b").expects("b")
    )
    run.succeeds("b").resolves("b>h").expects("h#2").succeeds("h#2", after=(False,)).resolves("h-b", "b-h", "h>end")


def test_a_do_while_ends_behind_its_body() -> None:
    run = play(graph_of("start>a a>b b>a? b>end!")).expects("a").succeeds("a").expects("b")
    run.succeeds("b", after=(True,)).expects("a#2").succeeds("a#2").expects("b#2")
    run.succeeds("b#2", {"n": 2}, after=(False,)).completes(n=2)


def test_an_edge_from_a_node_to_itself() -> None:
    run = play(graph_of("start>a a>a? a>end!")).expects("a").succeeds("a", {"n": 1}, after=(True,))
    run.expects("a#2").sees("a#2", n=1).succeeds("a#2", {"n": 2}, after=(False,)).completes(n=2)


def test_a_run_may_start_in_a_cycle() -> None:
    run = play(graph_of("a>b b>a? b>end!", start_node="a")).expects("a").succeeds("a").expects("b")
    run.succeeds("b", after=(True,)).expects("a#2").succeeds("a#2").expects("b#2").succeeds("b#2").completes()


def test_a_cycle_of_nodes_without_function_makes_an_attempt_in_each_iteration() -> None:
    run = play(graph_of("start>a a>b b>a? b>end!", plain("a"), plain("b"))).expects("b").succeeds("b", after=(True,))
    run.expects("b#2").succeeds("b#2", after=(False,)).completes()


def test_a_cycle_that_was_skipped_is_over() -> None:
    run = play(graph_of("start>a a>h? h>b b>h? b>c! c>end a>end!")).expects("a")
    run.succeeds("a", after=(False,)).skips("h", "b", "c").completes()


def test_two_back_edges_to_one_header() -> None:
    run = play(graph_of("start>h h>a? h>b? h>end! a>h b>h")).expects("h").succeeds("h", after=(True, True))
    run.expects("a", "b").succeeds("b", {"b": 1}).succeeds("a", {"a": 1}).expects("h#2").sees("h#2", a=1, b=1)
    run.succeeds("h#2", after=(False, True)).skips("a#2").expects("b#2").succeeds("b#2").expects("h#3")
    run.succeeds("h#3", after=(False, False)).skips("a#3", "b#3").completes(a=1, b=1)


def test_parallel_branches_in_a_body_join_in_the_body() -> None:
    run = play(graph_of("start>h h>a h>b a>j b>j j>h? j>end!")).expects("h").succeeds("h").expects("a", "b")
    run.succeeds("b", {"b": 1}).succeeds("a", {"a": 1}).expects("j").sees("j", a=1, b=1)
    run.succeeds("j", after=(True,)).expects("h#2").succeeds("h#2").expects("a#2", "b#2")
    run.succeeds("a#2", {"a": 2}).succeeds("b#2", {"b": 2}).expects("j#2").sees("j#2", a=2, b=2)
    run.succeeds("j#2", after=(False,)).completes(a=2, b=2)


def test_an_iteration_is_over_when_all_of_it_is() -> None:
    run = play(graph_of("start>h h>a h>b a>h? a>end! b>h? b>end!")).expects("h").succeeds("h").expects("a", "b")
    run.succeeds("a", {"a": 1}, after=(True,)).succeeds("b", {"b": 1}, after=(False,))
    run.expects("h#2").sees("h#2", a=1).succeeds("h#2").expects("a#2", "b#2")
    # b#2 left the cycle after b did, and saw nothing of it.
    run.succeeds("a#2", after=(False,)).succeeds("b#2", {"b": 2}, after=(False,)).completes(a=1, b=2)


def test_a_branch_that_dies_in_a_body_is_not_waited_for() -> None:
    run = play(graph_of("start>h h>a h>b b>c? a>j c>j j>h? j>end!")).expects("h").succeeds("h").expects("a", "b")
    run.succeeds("a").succeeds("b", {"b": 1}, after=(False,)).skips("c").expects("j").succeeds("j", after=(True,))
    run.expects("h#2").sees("h#2").succeeds("h#2").expects("a#2", "b#2").succeeds("a#2")
    run.succeeds("b#2", after=(True,)).expects("c#2").succeeds("c#2", {"c": 2}).expects("j#2").sees("j#2", c=2)
    run.succeeds("j#2", {"j": 2}, after=(False,)).completes(c=2, j=2)


def test_what_a_dead_branch_committed_is_in_no_later_view_but_in_what_a_failed_run_leaves() -> None:
    run = play(graph_of("start>h h>a h>b b>c? a>j c>j j>h? j>end!")).expects("h").succeeds("h").expects("a", "b")
    run.succeeds("b", {"b": 1}, after=(False,)).skips("c").succeeds("a").expects("j").succeeds("j", after=(True,))
    run.expects("h#2").succeeds("h#2").expects("a#2", "b#2").succeeds("b#2", {"b": 2}, after=(False,)).skips("c#2")
    run.sees("a#2").fails("a#2").breaks("error", b=2)


def test_where_no_edge_holds_the_cycle_ends_and_so_does_the_run() -> None:
    run = play(graph_of("start>h h>b? h>end? b>h")).expects("h").succeeds("h", after=(True, False)).expects("b")
    run.succeeds("b").expects("h#2").succeeds("h#2", after=(False, False)).breaks("end_not_reached", "'h'")


def test_a_node_that_stopped_in_an_earlier_iteration_is_not_blamed() -> None:
    run = play(graph_of("start>h h>a? h>b? h>end? a>h b>h?")).expects("h").succeeds("h", after=(True, True, False))
    run.expects("a", "b").succeeds("a").succeeds("b", after=(False,)).expects("h#2")
    run.succeeds("h#2", after=(False, True, False)).skips("a#2").expects("b#2").succeeds("b#2", after=(True,))
    run.expects("h#3").succeeds("h#3", after=(False, False, False)).breaks("end_not_reached", "taken from 'h'.")


# Edges that leave a cycle


def test_an_exit_from_the_middle() -> None:
    run = play(graph_of("start>a a>b b>c b>end? c>a")).expects("a").succeeds("a").expects("b")
    run.succeeds("b", after=(False,)).expects("c").succeeds("c").expects("a#2").succeeds("a#2").expects("b#2")
    # The exit is taken, and so is the edge that goes on: what waits outside waits for the cycle's end.
    run.succeeds("b#2", {"b": 2}, after=(True,)).expects("c#2").succeeds("c#2").expects("a#3").cancelled().stops(b=2)


def test_a_break_out_of_the_middle() -> None:
    run = play(graph_of("start>a a>b a>end? b>a? b>end! ")).expects("a").succeeds("a", after=(False,)).expects("b")
    run.succeeds("b", {"n": 1}, after=(True,)).expects("a#2").succeeds("a#2", after=(True,)).expects("b#2")
    run.succeeds("b#2", {"n": 2}, after=(False,)).resolves("b-a", "a>end", "b>end").completes(n=2)


def test_an_edge_that_leaves_early_resolves_once_when_the_cycle_ends() -> None:
    run = play(graph_of("start>h h>b? h>end! b>alarm? b>h alarm>end")).expects("h").succeeds("h", after=(True,))
    run.expects("b").succeeds("b", {"n": 1}, after=(True,)).resolves("b>h").expects("h#2")
    run.succeeds("h#2", after=(True,)).expects("b#2").succeeds("b#2", {"n": 2}, after=(False,)).resolves("b>h")
    run.expects("h#3").succeeds("h#3", after=(False,)).resolves("h-b", "b-h", "h>end", "b>alarm")
    # It carries what its source saw the last time it was taken.
    run.expects("alarm").sees("alarm", n=1).succeeds("alarm", {"rang": 1}).completes(n=2, rang=1)


def test_an_edge_that_leaves_twice_carries_the_later_view() -> None:
    run = play(graph_of("start>h h>b? h>end! b>alarm? b>h alarm>end")).expects("h").succeeds("h", after=(True,))
    run.expects("b").succeeds("b", {"n": 1}, after=(True,)).expects("h#2").succeeds("h#2", after=(True,)).expects("b#2")
    run.succeeds("b#2", {"n": 2}, after=(True,)).expects("h#3").succeeds("h#3", after=(False,))
    run.expects("alarm").sees("alarm", n=2).succeeds("alarm").completes(n=2)


def test_what_is_outside_a_cycle_may_run_beside_it() -> None:
    run = play(graph_of("start>h start>x h>h? h>end! x>end")).expects("h", "x").succeeds("h", after=(True,))
    run.expects("h#2").succeeds("x", {"x": 1}).sees("h#2").succeeds("h#2", {"h": 2}, after=(False,))
    run.completes(h=2, x=1)


# Cycles inside each other: o is the outer header, i the inner one.

NESTED = "start>o o>i i>b b>i? b>e! e>o? e>end!"


def test_an_inner_cycle_starts_anew_in_each_outer_iteration() -> None:
    run = play(graph_of(NESTED)).expects("o").succeeds("o").expects("i").succeeds("i").expects("b")
    run.succeeds("b", after=(True,)).expects("i#2").succeeds("i#2").expects("b#2").succeeds("b#2", after=(False,))
    run.expects("e").succeeds("e", {"n": 1}, after=(True,)).expects("o#2").sees("o#2", n=1).succeeds("o#2").expects(
        "i#3"
    )
    run.succeeds("i#3").expects("b#3").succeeds("b#3", after=(False,)).expects("e#2")
    run.succeeds("e#2", {"n": 2}, after=(False,)).completes(n=2)


def test_an_inner_exit_may_be_the_outer_back_edge() -> None:
    graph = graph_of("start>o o>i o>end? i>i? i>o!")
    run = play(graph).expects("o").succeeds("o", after=(False,)).expects("i").succeeds("i", {"n": 1}, after=(True,))
    run.expects("i#2").sees("i#2", n=1).succeeds("i#2", {"n": 2}, after=(False,)).resolves("i-i", "i>o").expects("o#2")
    run.sees("o#2", n=2).succeeds("o#2", after=(True,)).expects("i#3").succeeds("i#3", after=(False,)).expects("o#3")
    run.cancelled().stops(n=2)


def test_an_inner_exit_that_is_the_outer_back_edge_is_kept_while_the_inner_cycle_goes_on() -> None:
    graph = graph_of("start>o o>i? o>end! i>i? i>o?")
    run = play(graph).expects("o").succeeds("o", after=(True,)).expects("i")
    run.succeeds("i", {"n": 1}, after=(True, True)).expects("i#2").succeeds("i#2", {"n": 2}, after=(False, False))
    run.resolves("i-i", "i>o").expects("o#2").sees("o#2", n=1).succeeds("o#2", after=(False,)).skips("i#3")
    run.completes(n=1)


def test_an_exit_out_of_two_cycles_resolves_when_the_outer_one_ends() -> None:
    graph = graph_of("start>o o>i i>b b>alarm? b>i? b>e! e>o? e>end! alarm>end")
    run = play(graph).expects("o").succeeds("o").expects("i").succeeds("i").expects("b")
    run.succeeds("b", {"n": 1}, after=(True, True)).expects("i#2").succeeds("i#2").expects("b#2")
    run.succeeds("b#2", {"n": 2}, after=(False, False)).resolves("b-i", "b>e").expects("e").succeeds("e", after=(True,))
    run.expects("o#2").succeeds("o#2").expects("i#3").succeeds("i#3").expects("b#3")
    run.succeeds("b#3", {"n": 3}, after=(False, False)).expects("e#2").succeeds("e#2", after=(False,))
    run.resolves("e-o", "b>alarm", "e>end").expects("alarm").sees("alarm", n=1).succeeds("alarm").completes(n=3)


def test_an_inner_cycle_on_a_path_that_was_skipped() -> None:
    graph = graph_of("start>o o>i? o>e i>i? i>e! e>o? e>end!")
    run = play(graph).expects("o").succeeds("o", after=(False,)).skips("i").resolves("o-i", "o>e", "i-i", "i-e")
    run.expects("e").succeeds("e", after=(True,)).expects("o#2").succeeds("o#2", after=(True,)).expects("i#2")
    run.succeeds("i#2", after=(False,)).expects("e#2").succeeds("e#2", {"n": 2}, after=(False,)).completes(n=2)


def test_two_cycles_side_by_side_do_not_wait_for_each_other() -> None:
    run = play(graph_of("start>a start>b a>a? a>c! b>b? b>c! c>end")).expects("a", "b")
    run.succeeds("a", after=(True,)).expects("a#2").succeeds("a#2", after=(True,)).expects("a#3")
    run.succeeds("a#3", {"a": 3}, after=(False,)).succeeds("b", after=(True,)).expects("b#2")
    run.succeeds("b#2", {"b": 2}, after=(False,)).expects("c").sees("c", a=3, b=2).succeeds("c").completes(a=3, b=2)


def test_a_cycle_behind_a_cycle() -> None:
    run = play(graph_of("start>a a>a? a>b! b>b? b>end!")).expects("a").succeeds("a", after=(True,)).expects("a#2")
    run.succeeds("a#2", after=(False,)).expects("b").succeeds("b", after=(True,)).expects("b#2").succeeds(
        "b#2"
    ).completes()


def test_three_cycles_that_share_their_last_node() -> None:
    graph = graph_of("start>a a>b b>c c>c? c>b? c>a? c>end!")
    run = play(graph).expects("a").succeeds("a").expects("b").succeeds("b").expects("c")
    run.succeeds("c", after=(True, False, False)).expects("c#2").succeeds("c#2", after=(False, True, False)).expects(
        "b#2"
    )
    run.succeeds("b#2").expects("c#3").succeeds("c#3", after=(False, False, True)).expects("a#2").succeeds("a#2")
    run.expects("b#3").succeeds("b#3").expects("c#4").succeeds("c#4", after=(False, False, False)).completes()


def test_an_edge_that_would_go_on_inside_and_outside_goes_on_inside_first() -> None:
    graph = graph_of("start>a a>b b>b? b>a? b>end!")
    run = play(graph).expects("a").succeeds("a").expects("b").succeeds("b", {"n": 1}, after=(True, True)).expects("b#2")
    run.succeeds("b#2", {"n": 2}, after=(False, False)).expects("a#2").sees("a#2", n=1).succeeds("a#2").expects("b#3")
    # The default edge was taken in the second iteration of the inner cycle, and leaves both.
    run.succeeds("b#3", {"n": 3}, after=(False, False)).completes(n=3)
