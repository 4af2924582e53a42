"""What a run keeps does not grow with the steps it took."""

from __future__ import annotations

import pytest
from tests.unit.model.graphs import graph_of, plain
from tests.unit.model.playbook import Playbook, diff_of, key_of

from sandgraph.model import draft, events, scheduler
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.state import Json

LOOPING = "h>h? h>j!"


class Fast(Playbook):
    """A playbook that keeps no books: for runs of thousands of steps."""

    def told(self, event: events.Event) -> Fast:
        self.run, self.commands = scheduler.step(self.run, event)
        return self


def begin(graph: Graph, **state: Json) -> Fast:
    return Fast(graph, state).told(events.RunStarted(state))


def turn(run: Fast, times: int, **changes: Json) -> None:
    """Let h go round, each time with a commit."""
    for _ in range(times):
        (key,) = (key for key in run.run.active if key.node == "h")
        run.told(events.AttemptSucceeded(key, 1, diff_of({**changes, "n": key.iteration}), after=(True,)))


def test_a_chain_keeps_no_history() -> None:
    run = begin(graph_of("start>a a>b b>c c>end"))
    for name in "abc":
        run.told(events.AttemptSucceeded(key_of(name), 1, diff_of({name: 1})))
        assert len(run.run.parents) == 1


def test_after_a_join_the_branches_are_forgotten() -> None:
    run = begin(graph_of("start>a start>b a>c b>c c>d d>end"))
    run.told(events.AttemptSucceeded(key_of("a"), 1)).told(events.AttemptSucceeded(key_of("b"), 1))
    assert run.run.parents == {1: (), 2: ()}
    assert run.run.authors == {1: "a", 2: "b"}
    run.told(events.AttemptSucceeded(key_of("c"), 1))
    assert run.run.parents == {3: ()}
    assert run.run.authors == {3: "c"}


def test_a_long_cycle_keeps_no_history() -> None:
    run = begin(graph_of("start>h h>h? h>end!", max_steps=10_000))
    turn(run, 1_000)
    assert len(run.run.parents) == 1


def test_a_long_cycle_beside_an_open_branch_keeps_little() -> None:
    run = begin(graph_of(f"start>x start>h {LOOPING} x>j j>end", max_steps=10_000), n=0)
    turn(run, 2_000)
    assert len(run.run.parents) < 300
    assert run.run.parents.keys() - {0} == run.run.authors.keys()
    run.told(events.AttemptSucceeded(key_of("h#2001"), 1, diff_of({"m": 1}), after=(False,)))
    run.told(events.AttemptSucceeded(key_of("x"), 1, diff_of({"x": 1})))
    assert run.run.active[key_of("j")].view.state == {"n": 2000, "m": 1, "x": 1}


def test_a_conflict_with_an_old_commit_is_found_after_a_long_cycle() -> None:
    run = begin(graph_of(f"start>x start>a a>h {LOOPING} x>j j>end", max_steps=10_000))
    run.told(events.AttemptSucceeded(key_of("a"), 1, diff_of({"m": 1})))
    turn(run, 1_000)
    run.told(events.AttemptSucceeded(key_of("h#1001"), 1, after=(False,)))
    run.told(events.AttemptSucceeded(key_of("x"), 1, diff_of({"m": 2})))
    (ended,) = (command for command in run.commands if isinstance(command, RecordRun))
    assert ended.failure is not None
    assert "'a' and 'x' changed the key 'm'" in ended.failure.message


def churn(run: Fast, times: int, width: int) -> None:
    """Let h go round, each time with new keys and without the ones before."""
    for n in range(times):
        if run.run.status.is_final:
            return
        (key,) = (key for key in run.run.active if key.node == "h")
        made, gone = ([f"k{i}_{each}" for each in range(width)] for i in (n, n - 1))
        run.told(events.AttemptSucceeded(key, 1, diff_of(dict.fromkeys(made, 0), gone), after=(True,)))


def test_keys_that_were_deleted_are_forgotten() -> None:
    run = begin(graph_of("start>h h>h? h>end!"))
    churn(run, 100, 50)
    assert len(run.run.active[key_of("h#101")].view.writers) <= 50 + 50 + 1_000


def test_while_another_branch_is_open_only_so_many_keys_may_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "MAX_DELETED_KEYS", 500)
    run = begin(graph_of(f"start>x start>h {LOOPING} x>j j>end", plain("j")))
    churn(run, 100, 50)
    (ended,) = (command for command in run.commands if isinstance(command, RecordRun))
    assert ended.failure is not None
    assert (ended.failure.code, ended.failure.node) == ("too_many_deleted_keys", "h")
    assert ended.state == {f"k11_{i}": 0 for i in range(50)}
