"""Failures, retries, cancels and timeouts, and what comes too late."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.model.graphs import graph_of, loop, shape, tried
from tests.unit.model.playbook import Playbook, key_of, play

from sandgraph.model import events, scheduler
from sandgraph.model.commands import RecordNodeRun
from sandgraph.model.graph import Node
from sandgraph.model.retry import MAX_LOST, Retry
from sandgraph.model.run import AttemptStatus, Failure, NodeRunStatus, RunStatus

FORK = "start>a a>b a>c b>d c>d d>end"


def test_a_failed_attempt_fails_its_node_and_the_run() -> None:
    run = play(graph_of("start>a a>b b>end")).expects("a").succeeds("a", {"n": 1}).expects("b")
    run.fails("b").breaks("error", "It broke.", n=1)
    assert run.ledger.with_status(NodeRunStatus.FAILED) == {"b"}


def test_the_failure_names_its_node() -> None:
    run = play(graph_of("start>a a>end")).expects("a").fails("a")
    assert run.ledger.outcome is not None
    assert run.ledger.outcome.failure == Failure("error", "It broke.", node="a")


def test_a_node_that_took_too_long_is_called_timed_out() -> None:
    run = play(graph_of("start>a a>end")).expects("a").fails("a", AttemptStatus.TIMEOUT).breaks("timeout")
    assert run.ledger.with_status(NodeRunStatus.TIMED_OUT) == {"a"}


def test_a_failure_in_one_branch_cancels_the_other_and_keeps_what_was_committed() -> None:
    run = play(graph_of("start>a a>b a>c c>e b>d e>d d>end")).expects("a").succeeds("a", {"a": 1}).expects("b", "c")
    run.succeeds("c", {"c": 1}).expects("e").fails("b").breaks("error", a=1, c=1)
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == {"e"}
    assert run.ledger.attempts[key_of("e"), 1] is AttemptStatus.CANCELLED


def test_of_a_key_that_two_branches_set_a_failed_run_keeps_the_later_value() -> None:
    run = play(graph_of("start>a start>b b>c a>end c>end")).expects("a", "b").succeeds("b", {"n": 1}).expects("c")
    run.succeeds("a", {"n": 2}).fails("c").breaks("error", n=2)


# Retries


def test_a_retry_that_succeeds() -> None:
    run = play(graph_of("start>a a>end", tried("a", 3, initial_s=1, factor=4, max_s=3)), n=0).expects("a")
    run.fails("a").schedules("a", 1).waits_no_more("a").expects("a/2").sees("a", n=0)
    run.fails("a").schedules("a", 3).waits_no_more("a").expects("a/3").succeeds("a", {"n": 1}).completes(n=1)
    assert [found for _, found in run.ledger.attempts.items()] == ["error", "error", "succeeded"]


def test_while_it_waits_a_node_run_is_retrying() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").fails("a")
    assert run.ledger.with_status(NodeRunStatus.RETRYING) == {"a"}


def test_retries_that_are_used_up() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").fails("a").waits_no_more("a").expects("a/2")
    run.fails("a", AttemptStatus.TIMEOUT).breaks("timeout")
    assert run.ledger.with_status(NodeRunStatus.TIMED_OUT) == {"a"}


def test_a_failure_of_another_kind_is_not_retried() -> None:
    run = play(graph_of("start>a a>end", tried("a", 3))).expects("a").fails("a", AttemptStatus.RESULT_INVALID)
    run.breaks("result_invalid")


def test_a_sibling_goes_on_during_the_wait() -> None:
    run = play(graph_of(FORK, tried("b", 2))).expects("a").succeeds("a").expects("b", "c").fails("b")
    run.succeeds("c").waits_no_more("b").expects("b/2").succeeds("b").expects("d").succeeds("d").completes()


def test_an_iteration_that_is_tried_again_stays_the_same_iteration() -> None:
    looping = loop("a", 3)
    graph = graph_of("start>a a>end", replace(looping, retry=tried("a", 2).retry))
    run = play(graph).expects("a").fails("a").waits_no_more("a").expects("a/2")
    assert run.ledger.running[key_of("a")].is_entry
    run.succeeds("a", again=True).expects("a#2").fails("a#2").waits_no_more("a#2").expects("a#2/2")
    assert not run.ledger.running[key_of("a#2")].is_entry
    run.succeeds("a#2", again=True).expects("a#3").succeeds("a#3", again=True).completes()


# Lost attempts


def test_a_lost_attempt_is_tried_again_though_nobody_asked_for_it() -> None:
    run = play(graph_of("start>a a>end")).expects("a").fails("a", AttemptStatus.LOST).schedules("a", 0.5)
    run.waits_no_more("a").expects("a/2").fails("a", AttemptStatus.LOST).schedules("a", 1)
    run.waits_no_more("a").expects("a/3").succeeds("a", {"n": 1}).completes(n=1)
    assert [*run.ledger.attempts.values()] == ["lost", "lost", "succeeded"]


def test_lost_attempts_do_not_count_for_the_nodes_own_retries() -> None:
    own = Retry(max_attempts=3, initial_s=2, factor=3, jitter=False, on=frozenset({AttemptStatus.ERROR}))
    run = play(graph_of("start>a a>end", Node("a", function="a", retry=own))).expects("a")
    run.fails("a", AttemptStatus.LOST).schedules("a", 0.5).waits_no_more("a").expects("a/2")
    run.fails("a").schedules("a", 2).waits_no_more("a").expects("a/3")
    run.fails("a", AttemptStatus.LOST).schedules("a", 1).waits_no_more("a").expects("a/4")
    run.fails("a").schedules("a", 6).waits_no_more("a").expects("a/5")
    run.fails("a", AttemptStatus.LOST).schedules("a", 2).waits_no_more("a").expects("a/6")
    run.fails("a").breaks("error", "It broke.")


def test_an_attempt_that_is_lost_again_and_again_fails_and_says_how_often() -> None:
    run = play(graph_of("start>a a>end", tried("a", 50))).expects("a")
    for attempt in range(2, MAX_LOST + 1):
        run.fails("a", AttemptStatus.LOST).waits_no_more("a").expects(f"a/{attempt}")
    run.fails("a", AttemptStatus.LOST).breaks("lost", "Attempts were lost 5 times; of the last one: It broke.")
    assert run.ledger.with_status(NodeRunStatus.FAILED) == {"a"}


def test_each_iteration_has_its_own_lost_attempts() -> None:
    run = play(graph_of("start>a a>end", loop("a", 2))).expects("a")
    for name in ("a", "a#2"):
        for attempt in range(2, MAX_LOST + 1):
            run.fails(name, AttemptStatus.LOST).waits_no_more(name).expects(f"{name}/{attempt}")
        run.succeeds(name, again=True)
        if name == "a":
            run.expects("a#2")
    run.completes()


@pytest.mark.parametrize("status", [RunStatus.CANCELLED, RunStatus.FAILED])
def test_while_it_waits_after_a_loss_a_run_can_end(status: RunStatus) -> None:
    run = play(graph_of("start>a a>end")).expects("a").fails("a", AttemptStatus.LOST)
    if status is RunStatus.CANCELLED:
        run.cancelled().stops()
    else:
        run.timed_out().breaks("run_timeout")
    run.told(events.RetryDue(key_of("a"), 2)).does_nothing()


# What comes too late, or too early


def test_a_result_that_comes_twice_counts_once() -> None:
    run = play(graph_of("start>a a>b b>end")).expects("a").succeeds("a", {"n": 1}).expects("b")
    run.told(events.AttemptSucceeded(key_of("a"), 1)).does_nothing()
    run.told(events.AttemptFailed(key_of("a"), 1, AttemptStatus.LOST, Failure("lost", ""))).does_nothing()
    run.succeeds("b").completes(n=1)


def test_results_of_an_attempt_that_was_given_up_are_ignored() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").fails("a", AttemptStatus.LOST)
    run.told(events.AttemptSucceeded(key_of("a"), 1)).does_nothing()
    run.told(events.AttemptSucceeded(key_of("a"), 2)).does_nothing()
    run.waits_no_more("a").expects("a/2")
    run.told(events.AttemptSucceeded(key_of("a"), 1)).does_nothing()
    run.told(events.RetryDue(key_of("a"), 2)).does_nothing()
    run.succeeds("a", {"n": 2}).completes(n=2)


def test_results_of_node_runs_that_never_were_are_ignored() -> None:
    run = play(graph_of("start>a a>end")).expects("a")
    run.told(events.AttemptSucceeded(key_of("a#2"), 1)).told(events.RetryDue(key_of("end"), 1)).does_nothing()
    run.told(events.AttemptSucceeded(key_of("nobody"), 1)).does_nothing()


def test_a_second_start_is_ignored() -> None:
    run = play(graph_of("start>a a>end"), n=1).expects("a").told(events.RunStarted({"n": 2})).does_nothing()
    run.succeeds("a").completes(n=1)


def test_before_its_start_a_run_hears_nothing_but_its_end() -> None:
    run = Playbook(graph_of("start>a a>end"), {})
    for event in (events.AttemptSucceeded(key_of("a"), 1), events.RetryDue(key_of("a"), 1)):
        run.told(event).does_nothing()
    assert run.run.status is RunStatus.PENDING


@pytest.mark.parametrize(
    "event",
    [
        events.RunStarted({}),
        events.AttemptSucceeded(key_of("a"), 1),
        events.AttemptFailed(key_of("a"), 1, AttemptStatus.ERROR, Failure("error", "")),
        events.RetryDue(key_of("a"), 1),
        events.CancelRequested(),
        events.RunTimedOut(1),
    ],
)
def test_a_run_that_ended_stays_as_it_is(event: events.Event) -> None:
    run = play(graph_of("start>a a>end")).expects("a").succeeds("a", {"n": 1}).completes(n=1)
    before = run.run
    run.told(event).does_nothing()
    assert run.run is before


# Cancels and timeouts


def test_a_cancel_stops_what_runs_and_wins_over_a_late_result() -> None:
    run = play(graph_of(FORK)).expects("a").succeeds("a", {"n": 1}).expects("b", "c").cancelled().stops(n=1)
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == {"b", "c"}
    run.told(events.AttemptSucceeded(key_of("b"), 1)).does_nothing()


def test_a_cancel_during_the_wait_for_a_retry() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2))).expects("a").fails("a").cancelled().stops()
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == {"a"}
    run.told(events.RetryDue(key_of("a"), 2)).does_nothing()


def test_a_cancel_in_a_cycle_keeps_what_was_committed() -> None:
    run = play(graph_of("start>h h>b? h>end! b>h")).expects("h").succeeds("h", after=(True,)).expects("b")
    run.succeeds("b", {"n": 1}).expects("h#2").cancelled().stops(n=1)


def test_a_cancel_before_the_start_leaves_no_state() -> None:
    run = Playbook(graph_of("start>a a>end"), {"n": 1}).cancelled()
    assert run.ledger.outcome is not None
    assert (run.ledger.outcome.status, run.ledger.outcome.state) == (RunStatus.CANCELLED, None)
    run.told(events.RunStarted({"n": 1})).does_nothing()


def test_a_run_that_takes_too_long_fails() -> None:
    run = play(graph_of(FORK)).expects("a").succeeds("a", {"n": 1}).expects("b", "c").succeeds("b", {"b": 1})
    run.timed_out(2.5).breaks("run_timeout", "2.5 s", n=1, b=1)
    assert run.ledger.with_status(NodeRunStatus.CANCELLED) == {"c"}


@pytest.mark.parametrize("told", range(5))
def test_a_cancel_at_each_moment(told: int) -> None:
    script = ["a", "b", "c", "d"]
    run = play(graph_of(FORK)).expects("a")
    for name in script[:told]:
        run.succeeds(name, {name: 1})
        run.expects(*{"a": ["b", "c"], "c": ["d"]}.get(name, []))
    if told == len(script):
        run.completes(a=1, b=1, c=1, d=1)
    else:
        run.cancelled().stops(**dict.fromkeys(script[:told], 1))


def test_a_step_leaves_the_run_before_it_as_it_was() -> None:
    graph = graph_of(FORK)
    before, _ = scheduler.step(scheduler.Run(graph, shape(graph)), events.RunStarted({}))
    copy = repr(before)
    one, _ = scheduler.step(before, events.AttemptSucceeded(key_of("a"), 1))
    other, commands = scheduler.step(before, events.CancelRequested())
    assert repr(before) == copy
    assert (one.status, other.status) == (RunStatus.RUNNING, RunStatus.CANCELLED)
    assert RecordNodeRun(key_of("a"), NodeRunStatus.CANCELLED) in commands
