"""Who sees what: causal visibility, merges and conflicts."""

from __future__ import annotations

import pytest
from tests.unit.model.graphs import graph_of, plain
from tests.unit.model.playbook import Playbook, play

DIAMOND = "start>a a>b a>c b>d c>d d>end"
FORK = "start>a start>b a>c b>d c>j d>j j>end"


def parents(run: Playbook) -> dict[str, tuple[int, ...]]:
    return {str(commit.key): commit.parents for commit in run.ledger.commits.values()}


def test_a_branch_does_not_see_what_its_sibling_committed() -> None:
    run = play(graph_of(FORK), n=0).expects("a", "b").succeeds("a", {"n": 1}).expects("c").sees("c", n=1)
    run.sees("b", n=0).succeeds("b", {"m": 1}).expects("d").sees("d", n=0, m=1)
    run.succeeds("d").succeeds("c").expects("j").sees("j", n=1, m=1).succeeds("j").completes(n=1, m=1)


def test_a_commit_knows_its_parents() -> None:
    run = play(graph_of(DIAMOND)).expects("a").succeeds("a").expects("b", "c").succeeds("c").succeeds("b").expects("d")
    run.succeeds("d").completes()
    assert parents(run) == {"a": (0,), "c": (1,), "b": (1,), "d": (2, 3)}


def test_a_join_over_a_direct_edge_has_only_the_later_commit_as_parent() -> None:
    run = play(graph_of("start>a a>c a>b b>c c>end")).expects("a").succeeds("a", {"n": 1}).expects("b")
    run.succeeds("b", {"n": 2}).expects("c").sees("c", n=2).succeeds("c").completes(n=2)
    assert parents(run) == {"a": (0,), "b": (1,), "c": (2,)}


def test_a_join_of_branches_that_committed_nothing_has_one_parent() -> None:
    run = play(graph_of("start>x start>y x>a y>a a>end", plain("x"), plain("y"))).expects("a").succeeds("a").completes()
    assert parents(run) == {"a": (0,)}


def test_every_checkpoint_is_what_its_node_left() -> None:
    run = play(graph_of(DIAMOND), n=0).expects("a").succeeds("a", {"n": 1}).expects("b", "c")
    run.succeeds("c", {"c": 1}).succeeds("b", {"b": 1}, deletes=["n"]).expects("d").succeeds("d", {"d": 1})
    found = [run.ledger.state_at(number) for number in range(5)]
    assert found == [{"n": 0}, {"n": 1}, {"n": 1, "c": 1}, {"b": 1}, {"b": 1, "c": 1, "d": 1}]


@pytest.mark.parametrize("order", ["bc", "cb"])
def test_two_branches_that_set_one_key_fail_their_join(order: str) -> None:
    run = play(graph_of(DIAMOND)).expects("a").succeeds("a", {"n": 0}).expects("b", "c")
    values = {"b": 1, "c": 2}
    for name in order:
        run.succeeds(name, {"n": values[name]})
    run.breaks("state_conflict", "'b' and 'c'", "'n'", "'d'", n=values[order[1]])


def test_the_conflict_names_the_nodes_that_set_the_key_however_long_ago() -> None:
    run = play(graph_of(FORK)).expects("a", "b").succeeds("a", {"n": 1}).expects("c").succeeds("c")
    run.succeeds("b").expects("d").succeeds("d", {"n": 2}).breaks("state_conflict", "'a' and 'd'", "'n'", "'j'", n=2)


def test_setting_the_same_value_is_a_conflict_too() -> None:
    run = (
        play(graph_of(FORK)).expects("a", "b").succeeds("a", {"n": 1}).expects("c").succeeds("b", {"n": 1}).expects("d")
    )
    run.succeeds("c").succeeds("d").breaks("state_conflict", n=1)


@pytest.mark.parametrize("order", ["bc", "cb"])
def test_setting_and_deleting_one_key_is_a_conflict(order: str) -> None:
    run = play(graph_of(DIAMOND), n=0).expects("a").succeeds("a").expects("b", "c")
    for name in order:
        run.succeeds("b", {"n": 1}) if name == "b" else run.succeeds("c", deletes=["n"])
    run.breaks("state_conflict", "'b' and 'c'", **({"n": 1} if order == "cb" else {}))


def test_deleting_one_key_in_two_branches_is_a_conflict_too() -> None:
    run = play(graph_of(DIAMOND), n=0).expects("a").succeeds("a").expects("b", "c")
    run.succeeds("b", deletes=["n"]).succeeds("c", deletes=["n"]).breaks("state_conflict")


def test_deleting_a_key_that_is_not_there_changes_nothing() -> None:
    run = play(graph_of(DIAMOND)).expects("a").succeeds("a").expects("b", "c").succeeds("b", deletes=["n"])
    run.succeeds("c", {"n": 1}).expects("d").sees("d", n=1).succeeds("d").completes(n=1)
    assert not run.ledger.commits[2].diff


def test_what_one_branch_deleted_is_gone_after_the_join() -> None:
    run = play(graph_of(DIAMOND), n=0, m=0).expects("a").succeeds("a").expects("b", "c")
    run.succeeds("b", {"b": 1}).succeeds("c", deletes=["n"]).expects("d").sees("d", m=0, b=1)


def test_a_key_that_a_branch_deleted_and_set_again_is_its_own() -> None:
    run = play(graph_of("start>a start>b a>c c>j b>j j>end"), n=0).expects("a", "b").succeeds("a", deletes=["n"])
    run.expects("c").succeeds("c", {"n": 2}).succeeds("b").expects("j").sees("j", n=2).succeeds("j").completes(n=2)


def test_one_branch_may_overwrite_what_it_set() -> None:
    run = play(graph_of(FORK)).expects("a", "b").succeeds("a", {"n": 1}).expects("c").succeeds("c", {"n": 2})
    run.succeeds("b").expects("d").succeeds("d").expects("j").sees("j", n=2).succeeds("j", {"n": 3}).completes(n=3)


def test_both_branches_may_read_what_they_found() -> None:
    run = play(graph_of(DIAMOND), n=0).expects("a").succeeds("a", {"n": 1}).expects("b", "c").sees("b", n=1)
    run.sees("c", n=1).succeeds("b").succeeds("c").expects("d").sees("d", n=1)


def test_forks_in_forks() -> None:
    run = play(graph_of("start>a a>b a>c b>d b>e d>f e>f f>g c>g g>end")).expects("a").succeeds("a").expects("b", "c")
    run.succeeds("b", {"b": 1}).expects("d", "e").succeeds("e", {"e": 1}).succeeds("d", {"d": 1}).expects("f")
    run.sees("f", b=1, d=1, e=1).succeeds("f", {"b": 2}).succeeds("c", {"c": 1}).expects("g")
    run.sees("g", b=2, c=1, d=1, e=1).succeeds("g").completes(b=2, c=1, d=1, e=1)


def test_a_conflict_across_forks_in_forks() -> None:
    run = play(graph_of("start>a a>b a>c b>d b>e d>f e>f f>g c>g g>end")).expects("a").succeeds("a").expects("b", "c")
    run.succeeds("b").expects("d", "e").succeeds("e", {"n": 1}).succeeds("d").expects("f").succeeds("f")
    run.succeeds("c", {"n": 2}).breaks("state_conflict", "'e' and 'c'", "'g'", n=2)


def test_joins_that_cross() -> None:
    run = play(graph_of("start>a start>b a>x b>x a>y b>y x>z y>z z>end")).expects("a", "b")
    run.succeeds("a", {"a": 1}).succeeds("b", {"b": 1}).expects("x", "y").sees("x", a=1, b=1).sees("y", a=1, b=1)
    run.succeeds("y", {"y": 1}).succeeds("x", {"x": 1}).expects("z").sees("z", a=1, b=1, x=1, y=1)
    run.succeeds("z").completes(a=1, b=1, x=1, y=1)
    assert parents(run) == {"a": (0,), "b": (0,), "y": (1, 2), "x": (1, 2), "z": (3, 4)}


def test_a_join_of_a_branch_with_a_join_of_that_branch_forgets_neither_parent() -> None:
    run = play(graph_of("start>a start>b a>k a>j b>j j>k k>end", plain("j"))).expects("a", "b")
    run.succeeds("a", {"a": 1}).succeeds("b", {"b": 1}).expects("k").sees("k", a=1, b=1).succeeds("k")
    run.completes(a=1, b=1)
    assert parents(run) == {"a": (0,), "b": (0,), "k": (1, 2)}


def test_joins_that_cross_and_overwrite_what_both_saw() -> None:
    run = play(graph_of("start>a start>b a>x b>x a>y b>y x>z y>z z>end")).expects("a", "b")
    run.succeeds("a", {"a": 1}).succeeds("b", {"b": 1}).expects("x", "y").succeeds("x", {"a": 2})
    run.succeeds("y", {"b": 2}).expects("z").sees("z", a=2, b=2).succeeds("z").completes(a=2, b=2)


def test_joins_that_cross_and_overwrite_the_same_key() -> None:
    run = play(graph_of("start>a start>b a>x b>x a>y b>y x>z y>z z>end")).expects("a", "b")
    run.succeeds("a", {"a": 1}).succeeds("b").expects("x", "y").succeeds("x", {"a": 2})
    run.succeeds("y", {"a": 3}).breaks("state_conflict", "'x' and 'y'", "'a'", "'z'", a=3)


def test_branches_that_end_apart_may_conflict_at_the_end() -> None:
    run = play(graph_of("start>a start>b a>end1 b>end2")).expects("a", "b").succeeds("a", {"n": 1})
    run.succeeds("b", {"n": 2}).breaks("state_conflict", "'a' and 'b'", "'n'", "'end1' and 'end2'", n=2)


def test_branches_in_conflict_that_never_meet_do_not_fail() -> None:
    run = play(graph_of("start>a start>b a>end")).expects("a", "b").succeeds("a", {"n": 1}).succeeds("b", {"n": 2})
    run.completes(n=1)


def test_one_step_may_bring_two_conflicts_and_ends_the_run_once() -> None:
    run = play(graph_of("start>a start>b a>x b>x a>y b>y x>end y>end")).expects("a", "b").succeeds("a", {"n": 1})
    run.succeeds("b", {"n": 2}).breaks("state_conflict", "'x'", n=2)


def test_a_loops_end_may_bring_two_conflicts_and_ends_the_run_once() -> None:
    graph = graph_of("start>h start>b h>h? h>x h>y b>x b>y x>end y>end")
    run = play(graph).expects("h", "b").succeeds("b", {"n": 1}).succeeds("h", {"n": 2}, after=(False,))
    run.breaks("state_conflict", "'x'", n=2)


def test_two_ways_back_may_conflict_at_the_header() -> None:
    run = play(graph_of("start>h h>a? h>b? h>end! a>h b>h")).expects("h").succeeds("h", after=(True, True))
    run.expects("a", "b").succeeds("a", {"n": 1}).succeeds("b", {"n": 2})
    run.breaks("state_conflict", "'a' and 'b'", "'n'", "'h'", n=2)


def test_two_iterations_of_a_node_may_conflict() -> None:
    graph = graph_of("start>h h>b h>c b>d? b>e? e>h? e>d! c>h? c>d? d>end")
    run = play(graph).expects("h").succeeds("h").expects("b", "c").succeeds("b", {"n": 1}, after=(True, False))
    run.succeeds("c", after=(True, False)).expects("h#2").succeeds("h#2").expects("b#2", "c#2")
    run.succeeds("c#2").succeeds("b#2", {"n": 2}, after=(False, True)).expects("e#2").succeeds("e#2", after=(False,))
    run.breaks("state_conflict", "Two iterations of 'b'", "'n'", "'d'", n=2)
