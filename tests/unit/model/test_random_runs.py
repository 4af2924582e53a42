"""The scheduler against the oracle: random graphs, random orders of completion, failures, retries, cancels."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.unit.model.profile import IS_LONG, examples, part_of
from tests.unit.model.programs import PLAIN, RICH, Program, program, programs
from tests.unit.model.simulation import Simulation

from sandgraph.model import draft, events
from sandgraph.model.run import AttemptStatus, NodeRunKey, RunStatus
from sandgraph.model.scheduler import step
from sandgraph.model.state import Json

_AT_WILL = st.integers(0, 99)


@examples(60)
@given(programs(), st.integers(0, 2**32))
def test_a_run_is_what_the_oracle_says(chosen: Program, seed: int) -> None:
    simulation = Simulation(chosen)
    simulation.finish(Random(seed), flaky=True)
    simulation.agrees_with_oracle()


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("seed", range(100 if IS_LONG else 2))
def test_many_runs_are_what_the_oracle_says(seed: int, *, forgetful: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if forgetful:
        # What only long runs would forget is forgotten at every commit.
        monkeypatch.setattr(draft, "_COMPACT_EVERY", 1)
        monkeypatch.setattr(draft, "_DELETED_KEYS_KEPT", -100)
    random = Random(seed)
    for _ in range(200):
        simulation = Simulation(program(random.choice))
        simulation.finish(random, flaky=True)
        simulation.agrees_with_oracle()


@pytest.mark.parametrize("forgetful", [False, True])
def test_many_runs_with_maps_waits_and_subgraphs_are_what_the_oracle_says(
    *, forgetful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forgetful:
        monkeypatch.setattr(draft, "_COMPACT_EVERY", 1)
        monkeypatch.setattr(draft, "_DELETED_KEYS_KEPT", -100)
    for seed in range(20_000 if IS_LONG else part_of(100)):
        random = Random(seed)
        simulation = Simulation(program(random.choice, RICH))
        simulation.finish(random, flaky=True)
        simulation.agrees_with_oracle()
        simulation.is_told_again()


@pytest.mark.parametrize("kinds", [PLAIN, RICH.replace("w", "")])
def test_what_a_run_comes_to_does_not_depend_on_what_is_faster(kinds: str) -> None:
    compared = 0
    for seed in range(20_000 if IS_LONG else part_of(150, 75)):
        chosen = program(Random(seed).choice, kinds)
        graphs = [chosen.graph, *(inner.graph for inner in chosen.all_subgraphs().values())]
        if any(node.join for graph in graphs for node in graph.nodes):
            continue
        outcomes = []
        for order in range(3):
            simulation = Simulation(chosen)
            simulation.finish(Random(order))
            assert simulation.ledger.outcome
            outcomes.append((simulation.ledger.outcome.status, simulation.ledger.outcome.state))
        assert len({status for status, _ in outcomes}) == 1
        if outcomes[0][0] is RunStatus.COMPLETED:
            compared += 1
            # Lists that several branches added to are in one order, too.
            assert all(state == outcomes[0][1] for _, state in outcomes)
    assert compared > 10


class Runs(RuleBasedStateMachine):
    """A run, and everything that may happen to it at any moment."""

    @initialize(chosen=st.one_of(programs(), programs(RICH)))
    def start(self, chosen: Program) -> None:
        self.simulation = Simulation(chosen)
        self.is_disturbed = False

    def pick(self, which: int, *, waiting: bool) -> NodeRunKey:
        ledger = self.simulation.ledger
        keys = sorted(ledger.waiting if waiting else ledger.running, key=str)
        return keys[which % len(keys)]

    def _is_running(self) -> bool:
        return bool(self.simulation.ledger.running)

    def _is_waiting(self) -> bool:
        return bool(self.simulation.ledger.waiting)

    def _has_timer(self) -> bool:
        return bool(self.simulation.ledger.timers)

    def _goes_on(self) -> bool:
        return not self.simulation.run.status.is_final

    @rule(which=_AT_WILL)
    @precondition(_is_running)
    def succeed(self, which: int) -> None:
        self.simulation.succeed(self.pick(which, waiting=False))

    @rule(which=_AT_WILL)
    @precondition(_is_running)
    def succeed_again(self, which: int) -> None:
        self.succeed(which)

    @rule(which=_AT_WILL)
    @precondition(_is_running)
    def amend(self, which: int) -> None:
        key = self.pick(which, waiting=False)
        if self.simulation.may_be_amended(key):
            self.simulation.succeed(key, is_amended=True)

    @rule(which=_AT_WILL)
    @precondition(_is_running)
    def fail(self, which: int) -> None:
        key = self.pick(which, waiting=False)
        if self.simulation.may_fail(key):
            self.simulation.fail(key)

    @rule(which=_AT_WILL)
    @precondition(_is_running)
    def lose(self, which: int) -> None:
        key = self.pick(which, waiting=False)
        if self.simulation.may_be_lost(key):
            self.simulation.fail(key, AttemptStatus.LOST)

    @rule(which=_AT_WILL)
    @precondition(_is_waiting)
    def wait_no_more(self, which: int) -> None:
        self.simulation.wait_no_more(self.pick(which, waiting=True))

    @rule(which=_AT_WILL)
    @precondition(_has_timer)
    def let_time_elapse(self, which: int) -> None:
        keys = sorted(self.simulation.ledger.timers, key=str)
        self.simulation.elapse(keys[which % len(keys)])

    @rule(name=st.sampled_from(["go", "come", "nobody"]), payload=st.sampled_from([None, 1, "x", []]))
    @precondition(_goes_on)
    def send_an_event(self, name: str, payload: Json) -> None:
        self.simulation.send(name, payload)

    @rule(event=st.sampled_from([events.PauseRequested(), events.UnpauseRequested()]))
    def pause_or_unpause(self, event: events.Event) -> None:
        self.simulation.tell(event)

    @rule()
    @precondition(_goes_on)
    def reopen(self) -> None:
        if all(map(self.simulation.may_be_lost, self.simulation.ledger.running)):
            self.simulation.tell(events.Reopened())

    @rule()
    def make_it_again_from_what_it_was_told(self) -> None:
        self.simulation.is_told_again()

    @rule(which=_AT_WILL)
    def tell_again_what_was_told(self, which: int) -> None:
        told = self.simulation.told[which % len(self.simulation.told)]
        if isinstance(told, events.AttemptSucceeded | events.AttemptFailed | events.RetryDue | events.RunStarted):
            assert not self.simulation.tell(told)

    @rule(which=_AT_WILL, event=st.sampled_from([events.CancelRequested(), events.RunTimedOut(1)]))
    def end(self, which: int, event: events.Event) -> None:
        if which > 95 and self.simulation.tell(event):
            self.is_disturbed = True
            assert self.simulation.run.status in {RunStatus.CANCELLED, RunStatus.FAILED}

    @rule(which=_AT_WILL, status=st.sampled_from([AttemptStatus.NO_RESULT, AttemptStatus.OUTPUT_LIMIT]))
    @precondition(_is_running)
    def fail_for_good(self, which: int, status: AttemptStatus) -> None:
        if which > 95:
            self.simulation.fail(self.pick(which, waiting=False), status)
            self.is_disturbed = True

    @rule()
    @precondition(_is_running)
    def step_the_same_run_twice(self) -> None:
        key = self.pick(0, waiting=False)
        event = events.AttemptSucceeded(key, self.simulation.active(key).attempt)
        assert step(self.simulation.run, event) == step(self.simulation.run, event)

    def teardown(self) -> None:
        if hasattr(self, "simulation") and not self.is_disturbed:
            self.simulation.finish(Random(0))
            self.simulation.agrees_with_oracle()


TestRuns = Runs.TestCase
TestRuns.settings = examples(60)
