"""Histories of runs that go on as new ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from effort import part_of
from tests.unit.model.graphs import graph_of, loop, mapped, plain, subgraph, tried, waiting
from tests.unit.model.playbook import Playbook, diff_of, key_of
from tests.unit.model.profile import IS_LONG
from tests.unit.model.programs import RICH, Program, program
from tests.unit.model.simulation import Simulation

from sandgraph.errors import Conflict, NotFound
from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordCommit, StartAttempt
from sandgraph.model.fork import History, forked, overlaid, reopened
from sandgraph.model.graph import Graph, OnError
from sandgraph.model.reducers import Reducer
from sandgraph.model.replay import Past, Told, own_commit, replay
from sandgraph.model.run import NodeRunStatus, RunStatus
from sandgraph.model.state import DeleteKey, Json, ReduceKey, SetKey, StateDiff

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CHAIN = graph_of("start>a a>b b>end")
CHOICE = graph_of("start>a a>b? a>c! b>end c>end")
NOTHING = StateDiff()


class Kept(Playbook):
    """A run whose events are kept."""

    def __init__(
        self, graph: Graph, state: Mapping[str, Json] | None = None, subgraphs: Mapping[str, Graph] | None = None
    ) -> None:
        super().__init__(graph, state or {}, subgraphs)
        self._subgraphs = subgraphs
        self.fresh = self.run
        self.all_told: list[Told] = []

    def told(self, event: events.Event) -> Kept:
        super().told(event)
        if self.commands:
            self.all_told.append(_told(event, self.commands))
        return self

    def forked(self, at: int, changes: StateDiff = NOTHING, *, asks: bool = False) -> Playbook:
        return self._going_on(forked(self.fresh, self.all_told, at, changes, asks=asks))

    def reopened(self) -> Playbook:
        return self._going_on(reopened(self.fresh, self.all_told))

    def _going_on(self, history: History) -> Playbook:
        agrees(self.fresh, history)
        made = Playbook(self.fresh.graph, self.ledger.initial, self._subgraphs)
        for event in history.events:
            # What started last is to be expected, and nothing before.
            made._unexpected = []
            made.told(event)
        assert made.run == history.run
        return made


def _told(event: events.Event, commands: Iterable[Command]) -> Told:
    return Told(event, NOW, own_commit(event, commands))


def agrees(fresh: scheduler.Run, history: History) -> None:
    """Check that a history is one: told again, it leads to the same."""
    run, told, commands = fresh, list[Told](), list[Command]()
    for event in history.events:
        run, following = scheduler.step(run, event)
        assert following
        told.append(_told(event, following))
        commands += following
    assert (run, commands) == (history.run, history.commands)
    assert not run.status.is_final
    past = replay(Past(fresh), told)
    assert past.run == history.run
    # What is to be done first is what followed from the last event, and nothing else.
    expected = {(key, active.attempt) for key, active in run.attempts() if not active.is_waiting}
    left = {(each.key, each.attempt) for each in past.commands if isinstance(each, StartAttempt)}
    assert run.status is RunStatus.PENDING or left == expected
    assert not run.is_paused
    assert not any(active.is_waiting for _, active in run.attempts())


def changing(**values: Json) -> StateDiff:
    return diff_of(values)


def kept(graph: Graph, subgraphs: Mapping[str, Graph] | None = None, **state: Json) -> Kept:
    run = Kept(graph, state, subgraphs)
    run.starts()
    return run


def commits(history: History) -> list[RecordCommit]:
    return [command for command in history.commands if isinstance(command, RecordCommit)]


# Forks


def test_a_fork_is_told_all_up_to_its_commit() -> None:
    run = kept(graph_of("start>a a>b b>c c>end"))
    run.expects("a").succeeds("a", {"a": 1}).expects("b").succeeds("b", {"b": 1}).expects("c").succeeds("c").completes(
        a=1, b=1
    )
    run.forked(1).expects("b/2").sees("b", a=1).succeeds("b", {"b": 2}).expects("c").succeeds("c").completes(a=1, b=2)
    run.forked(2).expects("c/2").sees("c", a=1, b=1)


def test_at_the_initial_state_nothing_is_told() -> None:
    run = kept(CHAIN)
    run.expects("a").succeeds("a")
    history = forked(run.fresh, run.all_told, 0, changing(a=1), asks=True)
    assert (history.run, history.events, history.commands) == (run.fresh, [], [])


@pytest.mark.parametrize("at", [-1, 3, 10**30])
def test_there_is_no_commit_beyond_the_last(at: int) -> None:
    run = kept(CHAIN)
    run.expects("a").succeeds("a").expects("b").succeeds("b")
    with pytest.raises(NotFound) as missing:
        forked(run.fresh, run.all_told, at, NOTHING, asks=False)
    assert missing.value.code == "checkpoint_not_found"


def test_with_the_commit_that_ended_the_run_nothing_is_left() -> None:
    run = kept(CHAIN)
    run.expects("a").succeeds("a").expects("b").succeeds("b")
    with pytest.raises(Conflict) as refused:
        run.forked(2, changing(x=1))
    assert refused.value.code == "nothing_left"


def test_conditions_behind_the_last_commit_are_left_to_be_asked() -> None:
    run = kept(graph_of("start>a a>b? a>end! b>end"))
    run.expects("a").succeeds("a", {"n": 1}, after=(False,)).completes(n=1)
    run.forked(1, changing(n=2)).expects("a/3").asks("a").sees("a", n=2).succeeds("a", after=(True,)).expects("b")


def test_changes_are_laid_over_the_commit() -> None:
    run = kept(CHAIN)
    run.expects("a").succeeds("a", {"a": 1, "z": 1}).expects("b").succeeds("b")
    changes = StateDiff((SetKey("a", 2), DeleteKey("no"), SetKey("x", 3), DeleteKey("z")))
    history = forked(run.fresh, run.all_told, 1, changes, asks=False)
    assert commits(history)[0].diff == StateDiff((SetKey("a", 2), SetKey("x", 3)))
    run.forked(1, changes).expects("b/2").sees("b", a=2, x=3)


def test_what_parallel_branches_saw_does_not_change() -> None:
    run = kept(graph_of("start>a start>b a>c b>d c>j d>j j>end"))
    run.expects("a", "b").succeeds("a", {"a": 1}).expects("c").succeeds("b", {"b": 1}).expects("d").succeeds("c")
    going_on = run.forked(2, changing(x=1)).expects("c/2", "d/2").sees("c", a=1).sees("d", b=1, x=1)
    going_on.succeeds("c", {"c": 1}).succeeds("d").expects("j").sees("j", a=1, b=1, c=1, x=1)


def test_a_changed_key_that_a_parallel_branch_set_is_in_conflict() -> None:
    run = kept(graph_of("start>a start>b a>j b>j j>end"))
    run.expects("a", "b").succeeds("a", {"a": 1}).succeeds("b", {"b": 1}).expects("j")
    run.forked(1, changing(b=2)).expects("b/2").succeeds("b", {"b": 3}).breaks("state_conflict", a=1, b=3)


def test_changed_conditions_are_asked_anew_and_others_are_not() -> None:
    run = kept(CHOICE)
    run.expects("a").succeeds("a", {"n": 1}, after=(False,)).expects("c").succeeds("c")
    run.forked(1).expects("c/2")
    for going_on in (run.forked(1, changing(n=2)), run.forked(1, asks=True)):
        going_on.expects("a/3").asks("a").succeeds("a", after=(True,)).expects("b")


def test_in_a_loop_the_iterations_count_on() -> None:
    run = kept(graph_of("start>l l>end", loop("l", 3)))
    run.expects("l").succeeds("l", {"n": 1}, again=True).expects("l#2").succeeds("l#2", {"n": 2}, again=True)
    run.expects("l#3").succeeds("l#3", {"n": 3}, again=True).completes(n=3)
    going_on = run.forked(2, changing(n=9)).expects("l#2/3").asks("l#2").succeeds("l#2", again=True).expects("l#3")
    going_on.sees("l#3", n=9).succeeds("l#3", {"n": 10}, again=True).completes(n=10)


def test_the_retry_that_was_waited_for_elsewhere_starts_at_once() -> None:
    run = kept(graph_of("start>a start>b a>j b>j j>end", tried("b", 2)))
    run.expects("a", "b").fails("b").succeeds("a").waits_no_more("b").expects("b/2").succeeds("b").expects("j")
    run.forked(1).expects("b/2").fails("b").schedules("b", 0.5)


def test_a_reduction_is_changed_as_a_set_is() -> None:
    graph = replace(graph_of("start>a start>b a>j b>j j>end"), reducers=(("log", Reducer.EXTEND),))
    run = kept(graph, log=["x"])
    run.expects("a", "b").succeeds("a", {"log": ["x", "a"]}).succeeds("b", {"log": ["x", "b"]}).expects("j")
    history = forked(run.fresh, run.all_told, 1, changing(log=["x", "new"]), asks=False)
    assert commits(history)[0].diff.ops == (ReduceKey("log", Reducer.EXTEND, ["new"]),)
    run.forked(1, changing(log=["x", "new"])).expects("b/2").succeeds("b", {"log": ["x", "b"]}).expects("j").sees(
        "j", log=["x", "new", "b"]
    )


def test_a_commit_of_no_attempt_may_be_forked_at_but_not_changed() -> None:
    run = kept(graph_of("start>w w>b b>end", waiting("w")))
    run.receives("go", 1).expects("b").succeeds("b")
    run.forked(1).expects("b/2").sees("b", go=1)
    run.forked(1, asks=True).expects("b/2")
    with pytest.raises(Conflict) as refused:
        run.forked(1, changing(go=2))
    assert refused.value.code == "commit_not_amendable"


def test_of_a_map_the_commit_is_all_of_it() -> None:
    run = kept(graph_of("start>m m>b b>end", mapped("m")), items=[1, 2])
    run.expects("m#1/m", "m#1/m#2").succeeds("m#1/m", value=1).succeeds("m#1/m#2", value=2).expects("b").succeeds("b")
    run.forked(1).expects("b/2").sees("b", items=[1, 2], results=[1, 2])
    with pytest.raises(Conflict, match="not that of an attempt"):
        run.forked(1, changing(results=[]))


def test_inside_a_subgraph() -> None:
    run = kept(graph_of("start>s s>c c>end", subgraph("s")), {"inner": graph_of("start>a a>b b>end")})
    run.expects("s#1/a").succeeds("s#1/a", {"a": 1}).expects("s#1/b").succeeds("s#1/b", {"b": 1}).expects("c")
    run.forked(1, changing(a=2)).expects("s#1/b/2").sees("s#1/b", a=2).succeeds("s#1/b").expects("c").sees("c", a=2)
    # Where the subgraph ended by this commit, that was amended, and not what the subgraph left outside.
    run.forked(2, changing(b=3)).expects("c/2").sees("c", a=1, b=3)


def test_what_waits_waits_on_and_what_came_early_is_kept() -> None:
    run = kept(graph_of("start>w start>a a>v v>j w>j j>end", waiting("w"), waiting("v", "come")))
    run.expects("a").receives("come", 1).succeeds("a", {"a": 1}).receives("go", 2)
    run.forked(1).has(NodeRunStatus.WAITING, "w").commits("a", "v").receives("go", 3).expects("j").sees(
        "j", a=1, come=1, go=3
    )


def test_a_fork_of_a_paused_run_is_not_paused() -> None:
    run = kept(CHAIN)
    run.expects("a").pauses().succeeds("a").waits()
    run.forked(1).expects("b")


def test_later_operations_win_key_by_key() -> None:
    diff = StateDiff((SetKey("a", 1), DeleteKey("b"), ReduceKey("c", Reducer.ADD, 1)))
    changes = StateDiff((DeleteKey("a"), SetKey("c", 2), SetKey("d", 3)))
    assert overlaid(diff, changes) == StateDiff((DeleteKey("a"), DeleteKey("b"), SetKey("c", 2), SetKey("d", 3)))
    assert overlaid(diff, NOTHING) == diff


# Runs that are reopened


def test_resume_keeps_completed_siblings() -> None:
    run = kept(graph_of("start>a start>b start>c a>j b>j c>j j>end"))
    run.expects("a", "b", "c").succeeds("b", {"b": 1}).fails("a").breaks("error", b=1)
    going_on = run.reopened().expects("a/2", "c/2").succeeds("a", {"a": 1}).succeeds("c", {"c": 1}).expects("j")
    going_on.succeeds("j").completes(a=1, b=1, c=1)


def test_of_all_retries_the_last_failure_is_forgotten() -> None:
    run = kept(graph_of("start>a a>end", tried("a", 2)))
    run.expects("a").fails("a").waits_no_more("a").expects("a/2").fails("a").breaks("error")
    run.reopened().expects("a/3").fails("a").schedules("a", 0.5)


def test_a_failure_that_an_edge_handles_stays() -> None:
    run = kept(graph_of("start>a a>b a>c^f b>end c>end"))
    run.expects("a").fails("a").expects("c").fails("c").breaks("error")
    run.reopened().expects("c/2").succeeds("c").completes()


def test_every_branch_that_failed_is_made_anew() -> None:
    graph = replace(graph_of("start>a start>b start>c a>x x>j b>j c>j j>end"), on_error=OnError.FINISH)
    run = kept(graph)
    run.expects("a", "b", "c").fails("a").succeeds("b", {"b": 1}).fails("c").breaks("error", b=1)
    going_on = run.reopened().expects("a/2", "c/2").succeeds("a").expects("x").succeeds("c").succeeds("x").expects("j")
    going_on.sees("j", b=1).succeeds("j").completes(b=1)


@pytest.mark.parametrize("end", [events.CancelRequested(), events.RunTimedOut(1.0)])
def test_a_run_that_was_ended_from_outside_goes_on(end: events.Event) -> None:
    run = kept(CHAIN)
    run.expects("a").succeeds("a", {"a": 1}).expects("b").told(end)
    run.reopened().expects("b/2").sees("b", a=1)


def test_a_run_that_never_began_has_no_history() -> None:
    run = Kept(CHAIN)
    history = reopened(run.fresh, [])
    assert (history.run, history.events, history.commands) == (run.fresh, [], [])


def test_branches_that_disagreed_meet_again() -> None:
    run = kept(graph_of("start>a start>b a>j b>j j>end"))
    run.expects("a", "b").succeeds("a", {"x": 1}).succeeds("b", {"x": 2}).breaks("state_conflict", x=2)
    run.reopened().expects("b/2").succeeds("b", {"y": 2}).expects("j").sees("j", x=1, y=2)


def test_where_no_edge_was_taken_conditions_are_asked_again() -> None:
    run = kept(graph_of("start>a a>b? b>end"))
    run.expects("a").succeeds("a", {"n": 1}, after=(False,)).breaks("end_not_reached", n=1)
    run.reopened().expects("a/2").succeeds("a", {"n": 2}, after=(True,)).expects("b").sees("b", n=2)


def test_a_wait_that_took_too_long_waits_again() -> None:
    run = kept(graph_of("start>w w>end", waiting("w", timeout_s=5)))
    run.told(events.TimeElapsed(key_of("w"))).breaks("timeout")
    run.reopened().receives("go", 1).completes(go=1)


def test_what_failed_inside_a_subgraph_is_made_anew_there() -> None:
    run = kept(graph_of("start>s s>c c>end", subgraph("s")), {"inner": graph_of("start>a a>b b>end")})
    run.expects("s#1/a").succeeds("s#1/a", {"a": 1}).expects("s#1/b").fails("s#1/b").breaks("error")
    run.reopened().expects("s#1/b/2").sees("s#1/b", a=1).succeeds("s#1/b").expects("c")


def test_all_that_failed_inside_a_subgraph_that_finished_what_it_could_is_made_anew() -> None:
    inner = replace(graph_of("start>a start>b start>c a>j b>j c>j j>end"), on_error=OnError.FINISH)
    run = kept(graph_of("start>s s>end", subgraph("s")), {"inner": inner})
    run.expects("s#1/a", "s#1/b", "s#1/c").fails("s#1/a").succeeds("s#1/b", {"b": 1}).fails("s#1/c").breaks("error")
    run.reopened().expects("s#1/a/2", "s#1/c/2").succeeds("s#1/a").succeeds("s#1/c").expects("s#1/j").sees("s#1/j", b=1)


@pytest.mark.parametrize("order", ["abc", "cab", "acb", "bca"])
def test_items_that_failed_are_made_anew_and_the_others_are_not(order: str) -> None:
    graph = replace(graph_of("start>m m>end", mapped("m")), on_error=OnError.FINISH)
    names = {"a": "m#1/m", "b": "m#1/m#2", "c": "m#1/m#3"}
    run = kept(graph, items=[1, 2, 3])
    run.expects(*names.values())
    for item in order:
        if item == "b":
            run.succeeds(names[item], value=2)
        else:
            run.fails(names[item])
    run.breaks("error", items=[1, 2, 3])
    going_on = run.reopened().expects("m#1/m/2", "m#1/m#3/2").succeeds("m#1/m", value=1).succeeds("m#1/m#3", value=3)
    going_on.completes(items=[1, 2, 3], results=[1, 2, 3])


@pytest.mark.parametrize("last", ["fails", "succeeds"])
def test_items_of_a_map_in_a_subgraph_that_failed_are_made_anew(last: str) -> None:
    inner = replace(graph_of("start>m start>x m>j x>j j>end", mapped("m")), on_error=OnError.FINISH)
    run = kept(graph_of("start>s s>end", subgraph("s")), {"inner": inner}, items=[1, 2])
    first, second = "s#1/m#1/m", "s#1/m#1/m#2"
    run.expects(first, second, "s#1/x").fails(first)
    run.fails(second) if last == "fails" else run.succeeds(second, value=2)
    run.succeeds("s#1/x", {"x": 1}).breaks("error", items=[1, 2])
    again = [f"{first}/2", f"{second}/2"] if last == "fails" else [f"{first}/2"]
    going_on = run.reopened().expects(*again).succeeds(first, value=1)
    if last == "fails":
        going_on.succeeds(second, value=2)
    going_on.expects("s#1/j").sees("s#1/j", items=[1, 2], results=[1, 2], x=1)


def test_a_map_that_failed_fast_is_not_begun_anew() -> None:
    run = kept(graph_of("start>m m>end", mapped("m")), items=[1, 2])
    run.expects("m#1/m", "m#1/m#2").succeeds("m#1/m", value=1).fails("m#1/m#2").breaks("error", items=[1, 2])
    run.reopened().expects("m#1/m#2/2").succeeds("m#1/m#2", value=2).completes(items=[1, 2], results=[1, 2])


def test_what_a_subgraph_lost_a_race_with_does_not_matter() -> None:
    graph = graph_of("start>a start>b a>j b>j j>k k>end", replace(plain("j"), join=1))
    run = kept(graph)
    run.expects("a", "b").succeeds("a", {"a": 1}).expects("k").fails("k").breaks("error", a=1)
    run.reopened().expects("k/2").succeeds("k").completes(a=1)


# Of any run


@pytest.mark.parametrize("seed", range(2_000 if IS_LONG else part_of(60)))
def test_any_run_may_be_forked_at_any_commit(seed: int) -> None:
    random = Random(seed)
    chosen = program(random.choice, RICH)
    original = Simulation(chosen)
    original.finish(random, flaky=True)
    told = _all_told(original)
    for at in original.ledger.commits:
        try:
            history = forked(original.fresh, told, at, NOTHING, asks=False)
        except Conflict as refused:
            assert refused.code == "nothing_left"  # noqa: PT017
            continue
        agrees(original.fresh, history)
        assert [each.diff for each in commits(history) if each.number <= at] == [
            each.diff for number, each in sorted(original.ledger.commits.items()) if number <= at
        ]
        _goes_on(chosen, history, random)


@pytest.mark.parametrize("seed", range(2_000 if IS_LONG else part_of(100)))
def test_any_run_that_did_not_complete_may_be_reopened(seed: int) -> None:
    random = Random(seed)
    chosen = program(random.choice, RICH)
    original = Simulation(chosen)
    original.finish(random, flaky=True)
    if original.run.status is RunStatus.COMPLETED:
        return
    history = reopened(original.fresh, _all_told(original))
    agrees(original.fresh, history)
    _goes_on(chosen, history, random)


def _all_told(simulation: Simulation) -> list[Told]:
    run, told = simulation.fresh, list[Told]()
    for event in simulation.told:
        run, commands = scheduler.step(run, event)
        if commands:
            told.append(_told(event, commands))
    return told


def _goes_on(chosen: Program, history: History, random: Random) -> None:
    """Check that what goes on comes to what the oracle says."""
    if history.run.status is RunStatus.PENDING:
        return
    going_on = Simulation(chosen)
    for event in history.events[1:]:
        if isinstance(event, events.TimeElapsed):
            # The oracle is to know.
            going_on.elapse(event.key)
        else:
            assert going_on.tell(event)
    assert going_on.run == history.run
    going_on.finish(random)
    going_on.agrees_with_oracle()


def test_ten_thousand_events_take_seconds() -> None:
    run, count = Kept(graph_of("start>l l>end", loop("l", 10_001, None), max_steps=20_000)), part_of(10_000)
    told, now = list[Told](), run.fresh
    story: list[events.Event] = [events.RunStarted({})]
    story += (events.AttemptSucceeded(key_of(f"l#{n}"), 1, changing(n=n)) for n in range(1, count + 1))
    for event in story:
        now, commands = scheduler.step(now, event)
        assert commands
        told.append(_told(event, commands))
    began = time.monotonic()
    assert forked(run.fresh, told, count - 1, NOTHING, asks=False).run.commits == count - 1
    assert time.monotonic() - began < 10
    began = time.monotonic()
    assert reopened(run.fresh, told[:-1]).run.commits == count - 1
    assert time.monotonic() - began < 10
