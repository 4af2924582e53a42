"""The scheduler against the oracle: random graphs, random orders of completion, failures, retries, cancels."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.unit.model.profile import IS_LONG, examples
from tests.unit.model.programs import Program, program, programs
from tests.unit.model.simulation import Simulation

from sandgraph.model import draft, events
from sandgraph.model.run import AttemptStatus, NodeRunKey, RunStatus
from sandgraph.model.scheduler import step

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


class Runs(RuleBasedStateMachine):
    """A run, and everything that may happen to it at any moment."""

    @initialize(chosen=programs())
    def start(self, chosen: Program) -> None:
        self.simulation = Simulation(chosen)
        self.is_disturbed = False

    def pick(self, which: int, *, waiting: bool) -> NodeRunKey:
        active = self.simulation.run.active
        keys = sorted((key for key in active if active[key].is_waiting is waiting), key=str)
        return keys[which % len(keys)]

    def _is_running(self) -> bool:
        return bool(self.simulation.ledger.running)

    def _is_waiting(self) -> bool:
        return bool(self.simulation.ledger.waiting)

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
    def tell_again_what_was_told(self, which: int) -> None:
        told = self.simulation.told
        assert not self.simulation.tell(told[which % len(told)])

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
        event = events.AttemptSucceeded(key, self.simulation.run.active[key].attempt)
        assert step(self.simulation.run, event) == step(self.simulation.run, event)

    def teardown(self) -> None:
        if hasattr(self, "simulation") and not self.is_disturbed:
            self.simulation.finish(Random(0))
            self.simulation.agrees_with_oracle()


TestRuns = Runs.TestCase
TestRuns.settings = examples(60)
