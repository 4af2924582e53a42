"""Subgraphs: graphs inside graphs, in one run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.model.graphs import graph_of, loop, mapped, plain, subgraph, tried, waiting
from tests.unit.model.playbook import Playbook, diff_of, play_with

from sandgraph.model import events
from sandgraph.model.graph import Graph, Node, OnError, OnMax
from sandgraph.model.reducers import Reducer
from sandgraph.model.run import AttemptStatus, NodeRunStatus
from sandgraph.model.state import DeleteKey, ReduceKey, SetKey

CANCELLED, FAILED, SKIPPED = NodeRunStatus.CANCELLED, NodeRunStatus.FAILED, NodeRunStatus.SKIPPED
TIMED_OUT = NodeRunStatus.TIMED_OUT

CHAIN = graph_of("start>x x>y y>end")
OUTER = graph_of("start>s s>b b>end", subgraph("s"))


def inside(inner: Graph, outer: Graph = OUTER, **state: object) -> Playbook:
    return play_with({"inner": inner}, outer, **state)  # type: ignore[arg-type]


def outer(**fields: object) -> Graph:
    return graph_of("start>s s>b b>end", subgraph("s", "inner", **fields))


def message_of(run: Playbook) -> tuple[str | None, str]:
    assert run.ledger.outcome is not None
    assert run.ledger.outcome.failure is not None
    return run.ledger.outcome.failure.node, run.ledger.outcome.failure.message


# What goes in, what comes out


def test_nodes_inside_have_the_subgraphs_path_for_a_scope() -> None:
    run = inside(CHAIN).expects("s#1/x").succeeds("s#1/x").expects("s#1/y").succeeds("s#1/y").expects("b").succeeds("b")
    run.completes().has(
        NodeRunStatus.SUCCEEDED, "start", "s", *(f"s#1/{n}" for n in ("start", "x", "y", "end")), "b", "end"
    )
    assert {edge.scope for edge in run.ledger.edges} == {"", "s#1"}


def test_an_attempt_knows_its_graph() -> None:
    run = inside(CHAIN, graph_of("start>s start>b s>end b>end", subgraph("s"))).expects("s#1/x", "b")
    assert [start.graph_id for start in run.ledger.running.values()] == ["inner", None]


def test_without_more_it_sees_the_whole_state_and_leaves_all_that_it_changed_in_one_commit() -> None:
    run = inside(CHAIN, a=1, b=2).expects("s#1/x").sees("s#1/x", a=1, b=2).succeeds("s#1/x", {"x": 1}, deletes=["a"])
    run.expects("s#1/y").sees("s#1/y", b=2, x=1).succeeds("s#1/y", {"y": 1}).expects("b").sees("b", b=2, x=1, y=1)
    run.commits("s#1/x", "s#1/y", "s")
    last = run.ledger.commits[3]
    assert (last.attempt, last.parents) == (None, (0,))
    assert last.diff.ops == (DeleteKey("a"), SetKey("x", 1), SetKey("y", 1))
    run.succeeds("b").completes(b=2, x=1, y=1)


def test_it_sees_what_its_inputs_say() -> None:
    run = inside(CHAIN, outer(inputs={"n": "a", "m": "missing"}), a=1, b=2).expects("s#1/x").sees("s#1/x", n=1)
    run.succeeds("s#1/x", {"n": 5, "x": 1}).expects("s#1/y").succeeds("s#1/y").expects("b").sees(
        "b", a=1, b=2, n=5, x=1
    )


def test_it_leaves_what_its_outputs_say() -> None:
    graph = outer(inputs={"n": "a"}, outputs={"result": "x", "a": "n", "gone": "missing", "b": "missing"})
    run = (
        inside(CHAIN, graph, a=1, b=2)
        .expects("s#1/x")
        .succeeds("s#1/x", {"x": 10, "z": 1})
        .expects("s#1/y")
        .succeeds("s#1/y")
    )
    run.expects("b").sees("b", a=1, result=10)


def test_a_subgraph_without_inputs_starts_from_nothing() -> None:
    run = (
        inside(CHAIN, outer(inputs={}), a=1).expects("s#1/x").sees("s#1/x").succeeds("s#1/x", {"x": 1}).expects("s#1/y")
    )
    run.succeeds("s#1/y").expects("b").sees("b", a=1, x=1)


def test_a_subgraph_without_outputs_leaves_nothing() -> None:
    run = (
        inside(CHAIN, outer(outputs={}))
        .expects("s#1/x")
        .succeeds("s#1/x", {"x": 1})
        .expects("s#1/y")
        .succeeds("s#1/y")
        .expects("b")
    )
    run.sees("b").commits("s#1/x", "s#1/y")


def test_where_nothing_changed_there_is_no_commit() -> None:
    run = (
        inside(CHAIN, a=1)
        .expects("s#1/x")
        .succeeds("s#1/x", {"a": 2})
        .expects("s#1/y")
        .succeeds("s#1/y", {"a": 1})
        .expects("b")
    )
    run.commits("s#1/x", "s#1/y").succeeds("b").completes(a=1)


def test_what_goes_on_inside_is_seen_outside_only_afterwards() -> None:
    graph = graph_of("start>s start>b s>j b>c c>j j>end", subgraph("s"))
    run = inside(CHAIN, graph).expects("s#1/x", "b").succeeds("s#1/x", {"x": 1}).expects("s#1/y").succeeds("b")
    run.expects("c").sees("c").succeeds("s#1/y").succeeds("c", {"c": 1}).expects("j").sees("j", x=1, c=1)


def test_the_state_of_a_run_that_was_cancelled_has_nothing_of_a_subgraph_that_was_not_over() -> None:
    run = inside(CHAIN, graph_of("start>s start>b s>end b>end", subgraph("s"))).expects("s#1/x", "b")
    run.succeeds("s#1/x", {"x": 1}).expects("s#1/y").succeeds("b", {"b": 1}).cancelled().stops(b=1)


def test_a_subgraph_of_nothing_but_start_and_end() -> None:
    inside(graph_of("start>end"), a=1).expects("b").sees("b", a=1).commits()


def test_conditions_behind_a_subgraph_are_asked_over_what_it_left() -> None:
    graph = graph_of("start>s s>b? s>end! b>end", subgraph("s"), plain("b"))
    run = (
        inside(CHAIN, graph)
        .expects("s#1/x")
        .succeeds("s#1/x")
        .expects("s#1/y")
        .succeeds("s#1/y", {"y": 1})
        .expects("s")
        .asks("s")
    )
    run.sees("s", y=1).succeeds("s", after=(True,)).completes(y=1)


def test_what_it_leaves_meets_what_others_did_by_their_graphs_reducers() -> None:
    graph = graph_of("start>s start>t s>j t>j j>end", subgraph("s"), subgraph("t"))
    run = inside(graph_of("start>x x>end"), replace(graph, reducers=(("log", Reducer.APPEND),)), log=[0])
    run.expects("s#1/x", "t#1/x").succeeds("t#1/x", {"log": [0, "t"]}).succeeds("s#1/x", {"log": [0, "s"]}).expects("j")
    run.sees("j", log=[0, "s", "t"])
    assert run.ledger.commits[2].diff.ops == (ReduceKey("log", Reducer.APPEND, ["t"]),)
    assert run.ledger.commits[1].diff.ops == (SetKey("log", [0, "t"]),)


def test_what_two_left_without_a_reducer_is_a_conflict() -> None:
    graph = graph_of("start>s start>t s>j t>j j>end", subgraph("s"), subgraph("t"))
    run = inside(graph_of("start>x x>end"), graph).expects("s#1/x", "t#1/x").succeeds("t#1/x", {"n": 1})
    run.succeeds("s#1/x", {"n": 2}).breaks("state_conflict", "'s' and 't'", n=2)


# The inner graph's own affairs


def test_branches_inside_meet_inside() -> None:
    inner = graph_of("start>x start>y x>j y>j j>end")
    run = inside(inner, a=1).expects("s#1/x", "s#1/y").succeeds("s#1/y", {"y": 1}).succeeds("s#1/x", {"x": 1})
    run.expects("s#1/j").sees("s#1/j", a=1, x=1, y=1).succeeds("s#1/j").expects("b").sees("b", a=1, x=1, y=1)


def test_writers_in_conflict_inside_fail_the_subgraph() -> None:
    inner = graph_of("start>x start>y x>j y>j j>end")
    run = inside(inner, a=1).expects("s#1/x", "s#1/y").succeeds("s#1/x", {"a": 2}).succeeds("s#1/y", {"a": 3})
    run.breaks("state_conflict", "'x' and 'y'", "'a'", a=1).has(FAILED, "s")
    assert message_of(run)[0] == "s/j"


def test_reducers_inside_are_the_inner_graphs() -> None:
    inner = replace(graph_of("start>x start>y x>j y>j j>end"), reducers=(("n", Reducer.ADD),))
    run = inside(inner, n=1).expects("s#1/x", "s#1/y").succeeds("s#1/y", {"n": 3}).succeeds("s#1/x", {"n": 11})
    run.expects("s#1/j").sees("s#1/j", n=13).succeeds("s#1/j").expects("b").sees("b", n=13)


def test_a_cycle_inside_goes_round_inside() -> None:
    run = inside(graph_of("start>h h>h? h>end!")).expects("s#1/h").succeeds("s#1/h", after=(True,)).expects("s#1/h#2")
    run.succeeds("s#1/h#2", {"h": 2}, after=(False,)).expects("b").sees("b", h=2)


def test_a_loop_node_inside_may_fail_by_its_bound() -> None:
    inner = graph_of("start>l l>end", loop("l", 1, on_max=OnMax.FAIL))
    run = inside(inner).expects("s#1/l").succeeds("s#1/l", again=True).breaks("max_iterations_reached")
    assert message_of(run)[0] == "s/l"


def test_an_any_join_inside_cancels_inside() -> None:
    inner = graph_of("start>x start>y x>j y>j j>end", Node("j", join=1))
    run = inside(inner).expects("s#1/x", "s#1/y").succeeds("s#1/y", {"y": 1}).expects("b").sees("b", y=1)
    run.has(CANCELLED, "s#1/x")


def test_skipped_nodes_inside() -> None:
    inner = graph_of("start>x x>y? y>end x>z! z>end")
    run = inside(inner).expects("s#1/x").succeeds("s#1/x", after=(False,)).skips("s#1/y").expects("s#1/z")
    run.succeeds("s#1/z").expects("b")


def test_a_map_inside() -> None:
    run = inside(graph_of("start>m m>end", mapped("m")), items=[1]).expects("s#1/m#1/m").succeeds("s#1/m#1/m", value=2)
    run.expects("b").sees("b", items=[1], results=[2])


def test_a_retry_inside() -> None:
    run = inside(graph_of("start>x x>end", tried("x", 2))).expects("s#1/x").fails("s#1/x").schedules("s#1/x", 0.5)
    run.works().waits_no_more("s#1/x").expects("s#1/x/2").succeeds("s#1/x").expects("b")


def test_two_subgraphs_of_one_graph_do_not_mix() -> None:
    graph = graph_of("start>s start>t s>end t>end", subgraph("s"), subgraph("t", outputs={"t": "x"}))
    run = inside(CHAIN, graph).expects("s#1/x", "t#1/x").succeeds("t#1/x", {"x": "t"}).expects("t#1/y")
    run.succeeds("s#1/x", {"x": "s"}).expects("s#1/y").succeeds("t#1/y").succeeds("s#1/y").completes(x="s", t="t")


def test_a_subgraph_in_a_cycle_runs_anew_each_time() -> None:
    graph = graph_of("start>s s>b b>s? b>end!", subgraph("s"))
    run = (
        inside(CHAIN, graph)
        .expects("s#1/x")
        .succeeds("s#1/x")
        .expects("s#1/y")
        .succeeds("s#1/y", {"y": 1})
        .expects("b")
    )
    run.succeeds("b", {"b": 1}, after=(True,)).expects("s#2/x").sees("s#2/x", y=1, b=1).succeeds("s#2/x").expects(
        "s#2/y"
    )
    run.succeeds("s#2/y", {"y": 2}).expects("b#2").succeeds("b#2", after=(False,)).completes(y=2, b=1)


def test_names_with_a_slash_do_not_lead_astray() -> None:
    inner = graph_of("start>x x>end")
    names = ["s", "s#1/x", "s~1"]
    nodes = [subgraph(name) for name in names]
    edges = graph_of("start>end")
    graph = replace(
        edges,
        nodes=(*edges.nodes, *nodes),
        edges=tuple(replace(edges.edges[0], source=a, target=b) for n in names for a, b in (("start", n), (n, "end"))),
    )
    run = inside(inner, graph)
    keys = list(run.ledger.running)
    assert len({key.scope for key in keys}) == 3
    for number, key in enumerate(keys):
        run.expects(*run._unexpected).told(events.AttemptSucceeded(key, 1, diff_of({str(number): number})))
    assert run.ledger.outcome is not None
    assert run.ledger.outcome.state == {"0": 0, "1": 1, "2": 2}


# Nested subgraphs


def nested() -> Playbook:
    inmost = graph_of("start>x x>end")
    middle = graph_of("start>t t>y y>end", subgraph("t", "inmost"))
    run = play_with({"inmost": inmost, "inner": middle}, OUTER)
    return run.expects("s#1/t#1/x")


def test_nested_subgraphs() -> None:
    run = nested().succeeds("s#1/t#1/x", {"x": 1}).expects("s#1/y").sees("s#1/y", x=1).succeeds("s#1/y", {"y": 1})
    run.expects("b").sees("b", x=1, y=1).commits("s#1/t#1/x", "s#1/t", "s#1/y", "s").succeeds("b").completes(x=1, y=1)


def test_nested_subgraphs_a_failure_comes_out_of_all_of_them() -> None:
    run = nested().fails("s#1/t#1/x").breaks("error", "It broke.").has(FAILED, "s#1/t#1/x", "s#1/t", "s")
    assert message_of(run)[0] == "s/t/x"


def test_nested_subgraphs_a_cancel_reaches_all_of_them() -> None:
    nested().cancelled().stops().has(CANCELLED, "s#1/t#1/x", "s#1/t", "s")


# Failures


def test_a_failure_inside_may_be_handled_inside() -> None:
    inner = graph_of("start>x x>end x>y^f y>end")
    run = inside(inner).expects("s#1/x").fails("s#1/x").expects("s#1/y").succeeds("s#1/y", {"y": 1}).expects("b")
    run.sees("b", y=1)


def test_a_failure_inside_may_be_handled_outside() -> None:
    graph = graph_of("start>s s>b b>end s>c^f c>end", subgraph("s"))
    run = inside(CHAIN, graph, a=1).expects("s#1/x").succeeds("s#1/x", {"x": 1}).expects("s#1/y").fails("s#1/y")
    run.expects("c").sees("c", a=1).succeeds("c").completes(a=1)


def test_a_time_out_inside_is_a_failure_outside() -> None:
    graph = graph_of("start>s s>b^t b>end s>c^f c>end", subgraph("s"))
    inside(CHAIN, graph).expects("s#1/x").fails("s#1/x", AttemptStatus.TIMEOUT).expects("c")


def test_an_inner_graph_fails_fast_or_finishes_as_it_says() -> None:
    inner = graph_of("start>x start>y x>end y>z z>end")
    run = inside(inner).expects("s#1/x", "s#1/y").fails("s#1/x").breaks("error").has(CANCELLED, "s#1/y")
    run = inside(replace(inner, on_error=OnError.FINISH)).expects("s#1/x", "s#1/y").fails("s#1/x").works()
    run.succeeds("s#1/y").expects("s#1/z").succeeds("s#1/z").breaks("error").has(FAILED, "s#1/x", "s")


def test_an_outer_graph_that_finishes_lets_others_run_when_a_subgraph_failed() -> None:
    graph = replace(graph_of("start>s start>b s>c c>end b>end", subgraph("s")), on_error=OnError.FINISH)
    run = inside(CHAIN, graph).expects("s#1/x", "b").fails("s#1/x").skips("c").succeeds("b", {"b": 1})
    run.breaks("error", b=1)


def test_an_inner_graph_that_reaches_no_end_fails() -> None:
    inner = graph_of("start>x x>y? y>end")
    run = inside(inner).expects("s#1/x").succeeds("s#1/x", after=(False,)).breaks("end_not_reached", "'x'")
    assert message_of(run)[0] == "s"


# Bounds, time, cancels


def test_steps_inside_count_for_all_graphs_around() -> None:
    run = nested().succeeds("s#1/t#1/x").expects("s#1/y")
    assert run.run.steps == 4
    assert next(iter(run.run.inside.values())).run.steps == 3


def test_the_bound_of_an_inner_graph_fails_the_subgraph() -> None:
    graph = graph_of("start>s s>b b>end s>c^f c>end", subgraph("s"))
    run = inside(replace(CHAIN, max_steps=1), graph).expects("s#1/x").succeeds("s#1/x").expects("c").succeeds("c")
    run.completes()


@pytest.mark.parametrize("edges", ["", " s>c^f c>end", " s>end2^f"])
@pytest.mark.parametrize("on_error", OnError)
def test_the_bound_of_an_outer_graph_ends_the_run_and_is_not_for_edges_to_handle(on_error: OnError, edges: str) -> None:
    graph = graph_of(f"start>s start>b s>end b>end{edges}", subgraph("s"), max_steps=3)
    run = inside(CHAIN, replace(graph, on_error=on_error)).expects("s#1/x", "b").succeeds("s#1/x")
    run.breaks("max_steps_exceeded", "3 steps").has(CANCELLED, "s", "b")
    assert message_of(run)[0] == "s/y"


def test_the_bound_of_the_run_is_not_for_subgraphs_around_to_handle_either() -> None:
    inner = graph_of("start>m m>end", mapped("m"))
    middle = graph_of("start>t t>end t>y^f y>end", subgraph("t", "inmost"))
    graph = graph_of("start>s s>end", subgraph("s"), max_steps=3)
    run = play_with({"inmost": inner, "inner": middle}, graph, items=[1, 2]).breaks(
        "max_steps_exceeded", "3 steps", "'m'", items=[1, 2]
    )
    assert message_of(run)[0] == "s/t/m"
    run.has(CANCELLED, "s", "s#1/t")


def test_what_a_subgraph_was_not_let_do_counts_nowhere() -> None:
    graph = graph_of("start>s s>c^f c>d d>end", subgraph("s"), max_steps=4)
    run = inside(replace(CHAIN, max_steps=1), graph).expects("s#1/x").succeeds("s#1/x").expects("c").succeeds("c")
    run.expects("d").succeeds("d").completes()


def test_a_subgraph_that_takes_too_long_is_timed_out_with_all_that_is_in_it() -> None:
    graph = graph_of("start>s s>b b>end s>c^t c>end", subgraph("s", timeout_s=5))
    run = inside(CHAIN, graph).sets_timer("s", 5).expects("s#1/x").elapses("s").expects("c").has(CANCELLED, "s#1/x")
    run.has(TIMED_OUT, "s").succeeds("c").completes()


@pytest.mark.parametrize(("own", "inners", "least"), [(5, 3, 3), (3, 5, 3), (None, 4, 4), (4, None, 4)])
def test_its_time_is_the_lesser_of_its_own_and_its_graphs(
    own: float | None, inners: float | None, least: float
) -> None:
    run = inside(replace(CHAIN, timeout_s=inners), outer(timeout_s=own)).sets_timer("s", least).expects("s#1/x")
    run.elapses("s").breaks("timeout", f"{least} s")


def test_a_subgraph_whose_time_is_over_too_late_is_left_alone() -> None:
    run = inside(graph_of("start>x x>end"), outer(timeout_s=5)).expects("s#1/x").succeeds("s#1/x").expects("b")
    run.told(events.TimeElapsed(next(key for key in run.ledger.node_runs if key.node == "s"))).does_nothing()


def test_the_time_of_a_wait_inside() -> None:
    inner = graph_of("start>w w>end w>y^t y>end", waiting("w", timeout_s=5))
    inside(inner).sets_timer("s#1/w", 5).waits().elapses("s#1/w").expects("s#1/y").works()


def test_a_subgraph_that_loses_a_race_is_cancelled_with_all_that_is_in_it() -> None:
    inner = graph_of("start>w start>m start>x x>end w>end m>end", waiting("w"), mapped("m"))
    graph = graph_of("start>s start>b s>j b>j j>end", subgraph("s"), Node("j", join=1))
    run = inside(inner, graph, items=[1]).expects("s#1/m#1/m", "s#1/x", "b").succeeds("b", {"b": 1})
    run.completes(items=[1], b=1).has(CANCELLED, "s", "s#1/w", "s#1/m", "s#1/m#1/m", "s#1/x")


def test_a_subgraph_may_win() -> None:
    graph = graph_of("start>s start>b s>j b>j j>end", subgraph("s"), Node("j", join=1))
    run = inside(graph_of("start>x x>end"), graph).expects("s#1/x", "b").succeeds("s#1/x", {"x": 1}).completes(x=1)
    run.has(CANCELLED, "b")


def test_a_failure_outside_cancels_what_is_inside() -> None:
    graph = graph_of("start>s start>b s>end b>end", subgraph("s"))
    inside(CHAIN, graph).expects("s#1/x", "b").fails("b").breaks("error").has(CANCELLED, "s", "s#1/x")


def test_what_comes_too_late_from_inside_changes_nothing() -> None:
    graph = graph_of("start>s start>b s>j b>j j>c c>end", subgraph("s"), Node("j", join=1))
    run = inside(CHAIN, graph).expects("s#1/x", "b")
    late = next(key for key in run.ledger.running if key.scope)
    run.succeeds("b").expects("c").told(events.AttemptSucceeded(late, 1)).does_nothing()


def test_resume_keeps_completed_siblings_inside_and_outside() -> None:
    graph = graph_of("start>s start>b s>j b>j j>end", subgraph("s"))
    run = inside(graph_of("start>x start>y x>z y>z z>end"), graph).expects("s#1/x", "s#1/y", "b").succeeds("b")
    run.succeeds("s#1/x", {"x": 1}).reopens().expects("s#1/y/2").succeeds("s#1/y", {"y": 1}).expects("s#1/z")
    run.sees("s#1/z", x=1, y=1).succeeds("s#1/z").expects("j").sees("j", x=1, y=1)
