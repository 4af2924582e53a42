"""Tests of the scheduler that read like a script: what the run is told, and what it does about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from tests.unit.model.graphs import shape
from tests.unit.model.ledger import Ledger

from sandgraph.model import events, scheduler
from sandgraph.model.commands import RecordEdge, RecordNodeRun, ScheduleRetry, ScheduleTimer, StartAttempt
from sandgraph.model.graph import Graph
from sandgraph.model.progress import Blueprint
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import DeleteKey, Json, Op, SetKey, StateDiff


def play(graph: Graph, **state: Json) -> Playbook:
    """Start a run over a state."""
    return prepared(graph, **state).starts()


def play_with(subgraphs: Mapping[str, Graph], graph: Graph, **state: Json) -> Playbook:
    """Start a run whose graph has subgraphs, by their ids."""
    return Playbook(graph, state, subgraphs).starts()


def prepared(graph: Graph, **state: Json) -> Playbook:
    """Make a run that has not started."""
    return Playbook(graph, state)


def key_of(name: str) -> NodeRunKey:
    """Read ``node`` or ``node#3``, after its scope: ``review#1/check``."""
    scope, _, own = name.rpartition("/")
    node, _, iteration = own.partition("#")
    return NodeRunKey(node, int(iteration or 1), scope)


def diff_of(changes: Mapping[str, Json], deleted: Iterable[str] = ()) -> StateDiff:
    ops: list[Op] = [*(SetKey(key, value) for key, value in changes.items()), *(DeleteKey(key) for key in deleted)]
    return StateDiff(tuple(sorted(ops, key=lambda op: op.key)))


class Playbook:
    """A run and its script so far. Every attempt that starts must be expected before the run is told more."""

    def __init__(self, graph: Graph, state: Mapping[str, Json], subgraphs: Mapping[str, Graph] | None = None) -> None:
        blueprints = {name: Blueprint(inner, shape(inner)) for name, inner in (subgraphs or {}).items()}
        self.run = scheduler.Run(graph, shape(graph), subgraphs=blueprints)
        self.ledger = Ledger(state)
        self._unexpected: list[str] = []

    # What the run is told

    def told(self, event: events.Event) -> Self:
        assert not self._unexpected, f"started, not expected: {self._unexpected}"
        self.run, commands = scheduler.step(self.run, event)
        self.ledger.take(self.run, commands)
        self.commands = commands
        self._unexpected = [_name(each) for each in commands if isinstance(each, StartAttempt)]
        return self

    def starts(self) -> Self:
        return self.told(events.RunStarted(self.ledger.initial))

    def succeeds(
        self,
        name: str,
        changes: Mapping[str, Json] | None = None,
        *,
        deletes: Iterable[str] = (),
        after: tuple[bool, ...] = (),
        again: bool | None = None,
        entered: bool = True,
        value: Json = None,
        is_amended: bool = False,
    ) -> Self:
        """Let the present attempt of a node run come back; ``after`` answers its edges' conditions."""
        key, diff = key_of(name), diff_of(changes or {}, deletes)
        attempt = self.ledger.running[key].attempt
        return self.told(events.AttemptSucceeded(key, attempt, diff, entered, again, after, value, is_amended))

    def fails(self, name: str, status: AttemptStatus = AttemptStatus.ERROR) -> Self:
        attempt = self.ledger.running[key_of(name)].attempt
        return self.told(events.AttemptFailed(key_of(name), attempt, status, Failure(status, "It broke.")))

    def waits_no_more(self, name: str) -> Self:
        """Let the wait before the next attempt be over."""
        return self.told(events.RetryDue(key_of(name), self.ledger.waiting[key_of(name)].attempt))

    def receives(self, name: str, payload: Json = None, event_id: str | None = None) -> Self:
        """Send the run an event."""
        return self.told(events.EventReceived(name, payload, event_id or f"e{len(self.ledger.received) + 1}"))

    def elapses(self, name: str) -> Self:
        """Let the time of a wait, a map or a subgraph be over."""
        assert key_of(name) in self.ledger.timers
        return self.told(events.TimeElapsed(key_of(name)))

    def pauses(self) -> Self:
        return self.told(events.PauseRequested())

    def unpauses(self) -> Self:
        return self.told(events.UnpauseRequested())

    def reopens(self) -> Self:
        return self.told(events.Reopened())

    def cancelled(self) -> Self:
        return self.told(events.CancelRequested())

    def timed_out(self, timeout_s: float = 60) -> Self:
        return self.told(events.RunTimedOut(timeout_s))

    # What it does

    def expects(self, *names: str) -> Self:
        """Say which attempts the last step started: ``node``, ``node#iteration``, with ``/attempt`` from the second."""
        assert self._unexpected == list(names)
        self._unexpected = []
        return self

    def sees(self, name: str, **state: Json) -> Self:
        """Say what an attempt that runs sees."""
        assert self.ledger.running[key_of(name)].view.state == state
        return self

    def schedules(self, name: str, delay_s: float) -> Self:
        found = [(each.key, each.delay_s) for each in self.commands if isinstance(each, ScheduleRetry)]
        assert found == [(key_of(name), delay_s)]
        return self

    def sets_timer(self, name: str, delay_s: float) -> Self:
        found = [(each.key, each.delay_s) for each in self.commands if isinstance(each, ScheduleTimer)]
        assert found == [(key_of(name), delay_s)]
        return self

    def asks(self, name: str) -> Self:
        """Say that an attempt that runs only asks conditions."""
        assert self.ledger.running[key_of(name)].asks_only
        return self

    def waits(self) -> Self:
        """Say that nothing is left to be done but to wait."""
        assert self.run.status is RunStatus.WAITING
        return self

    def works(self) -> Self:
        assert self.run.status is RunStatus.RUNNING
        return self

    def has(self, status: NodeRunStatus, *names: str) -> Self:
        """Say which node runs have a status."""
        assert self.ledger.with_status(status) == set(names)
        return self

    def commits(self, *names: str) -> Self:
        """Say which node runs made a commit so far, in their order."""
        assert [str(commit.key) for commit in self.ledger.commits.values()] == list(names)
        return self

    def skips(self, *names: str) -> Self:
        """Say which node runs the last step skipped."""
        found = [each for each in self.commands if isinstance(each, RecordNodeRun)]
        assert [str(each.key) for each in found if each.status is NodeRunStatus.SKIPPED] == list(names)
        return self

    def resolves(self, *edges: str) -> Self:
        """Say which edges the last step resolved: ``a>b``, or ``a-b`` where it was skipped."""
        found = [each for each in self.commands if isinstance(each, RecordEdge)]
        assert [f"{each.source}{'>' if each.taken else '-'}{each.target}" for each in found] == list(edges)
        return self

    def does_nothing(self) -> Self:
        assert self.commands == []
        return self

    # How it ends

    def completes(self, **state: Json) -> Self:
        return self._ends(RunStatus.COMPLETED, None, state)

    def breaks(self, code: str, *words: str, **state: Json) -> Self:
        """Say that the run failed: with which code, which words in its message, and over which state."""
        self._ends(RunStatus.FAILED, code, state)
        for word in words:
            assert word in self.message
        return self

    def stops(self, **state: Json) -> Self:
        """Say that the run was cancelled."""
        return self._ends(RunStatus.CANCELLED, "cancelled", state)

    @property
    def message(self) -> str:
        assert self.ledger.outcome is not None
        assert self.ledger.outcome.failure is not None
        return self.ledger.outcome.failure.message

    def _ends(self, status: RunStatus, code: str | None, state: Mapping[str, Json]) -> Self:
        outcome = self.ledger.outcome
        assert outcome is not None, f"the run goes on: {list(self.run.active)}"
        assert (outcome.status, outcome.failure and outcome.failure.code) == (status, code)
        assert outcome.state == state
        return self


def _name(command: StartAttempt) -> str:
    return str(command.key) if command.attempt == 1 else f"{command.key}/{command.attempt}"
