"""Runs of programs, told what happens to their attempts from outside, and held against the oracle at their end."""

from __future__ import annotations

from random import Random

from tests.unit.model.graphs import shape
from tests.unit.model.ledger import Ledger
from tests.unit.model.oracle import Oracle, cycles
from tests.unit.model.playbook import diff_of
from tests.unit.model.programs import INITIAL, Program

from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordEdge, RecordNodeRun
from sandgraph.model.graph import OnError
from sandgraph.model.retry import MAX_LOST
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus

#: Failures that end a run at once: which of several comes first is a matter of time.
SUDDEN = {"state_conflict", "max_steps_exceeded", "max_iterations_reached", "no_result", "timeout"}

_FAILED = {NodeRunStatus.FAILED, NodeRunStatus.TIMED_OUT}


class Simulation:
    """A run of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.run = scheduler.Run(program.graph, shape(program.graph))
        self.ledger = Ledger(INITIAL)
        self.told: list[events.Event] = []
        self.seen: dict[NodeRunKey, object] = {}
        self.winners: dict[NodeRunKey, set[int]] = {}
        self.idle: dict[NodeRunKey, bool] = {}
        self._came: dict[str, set[int]] = {}
        self.tell(events.RunStarted(INITIAL))

    def tell(self, event: events.Event) -> bool:
        """Tell the run something, and say whether it did anything about it."""
        before = self.run.status
        self.run, commands = scheduler.step(self.run, event)
        assert not (before.is_final and commands)
        self.ledger.take(self.run, commands)
        self.told.append(event)
        self._keep_what_time_decided(commands)
        self.seen |= {key: start.view.state for key, start in self.ledger.running.items()}
        return bool(commands)

    def _keep_what_time_decided(self, commands: list[Command]) -> None:
        failed = self.run.status.is_final and self.run.status is not RunStatus.COMPLETED
        for command in commands:
            match command:
                case RecordEdge(index, _, target, True) if index not in self.run.topology.back_edges:
                    self._came.setdefault(target, set()).add(index)
                case RecordNodeRun(key, NodeRunStatus.RUNNING | NodeRunStatus.SKIPPED, _, message):
                    self.winners.setdefault(key, self._came.pop(key.node, set()))
                    if message.startswith("What it leads to"):
                        self._give_up(key, has_begun=False)
                case RecordNodeRun(key, NodeRunStatus.CANCELLED, _, message) if message:
                    self._give_up(key, has_begun=True)
                case _:
                    pass
        if failed:
            for name, came in self._came.items():
                # It had all that it needed, but the run was over before it began.
                if len(came) == self.run.topology.nodes[name].join:
                    earlier = sum(key.node == name for key in self.ledger.node_runs)
                    self.winners[NodeRunKey(name, earlier + 1)] = came

    def _give_up(self, key: NodeRunKey, *, has_begun: bool) -> None:
        """Enter what a join did not wait for: it must not lead to anything but such joins, and they must have begun."""
        self.idle[key] = has_begun
        if self.run.status is RunStatus.FAILED:
            # The join may not have come to begin.
            return
        graph, loops = self.program.graph, cycles(self.program.graph)
        begun = {node.name for node in graph.nodes if node.join and NodeRunKey(node.name) in self.ledger.node_runs}
        seen = {(key.node, frozenset(begun))}
        todo = list(seen)
        while todo:
            name, closed = todo.pop()
            outgoing = [edge for edge in graph.edges if edge.source == name]
            assert outgoing
            assert name not in self.run.topology.ends
            for edge in outgoing:
                if edge.target in loops and name in loops[edge.target].nodes:
                    further = (edge.target, closed - loops[edge.target].nodes | (closed & {edge.target}))
                elif edge.target in closed:
                    continue
                else:
                    further = (edge.target, closed)
                if further not in seen:
                    seen.add(further)
                    todo.append(further)

    def succeed(self, key: NodeRunKey) -> None:
        """Let an attempt come back as the program says, which may be that it fails."""
        act = self.program.act(key)
        if act.fails:
            self.fail(key, act.fails)
            return
        diff = diff_of(act.changes, act.deletes)
        attempt = self.run.active[key].attempt
        self.tell(events.AttemptSucceeded(key, attempt, diff, act.entered, act.again, act.after))

    def fail(self, key: NodeRunKey, status: AttemptStatus = AttemptStatus.ERROR) -> None:
        attempt = self.run.active[key].attempt
        self.tell(events.AttemptFailed(key, attempt, status, Failure(status, "It broke.")))

    def may_fail(self, key: NodeRunKey) -> bool:
        """Tell whether there is another attempt if the present one fails."""
        failed = [status for (of, _), status in self.ledger.attempts.items() if of == key]
        others = [status for status in failed if status is not AttemptStatus.LOST]
        return len(others) + 1 < self.run.topology.nodes[key.node].retry.max_attempts

    def may_be_lost(self, key: NodeRunKey) -> bool:
        """Tell whether there is another attempt if the present one is lost."""
        lost = [of for (of, _), status in self.ledger.attempts.items() if of == key and status is AttemptStatus.LOST]
        return len(lost) + 1 < MAX_LOST

    def wait_no_more(self, key: NodeRunKey) -> None:
        self.tell(events.RetryDue(key, self.run.active[key].attempt))

    def finish(self, order: Random, *, flaky: bool = False) -> None:
        """Go on until the run ends; an attempt that may be tried again fails now and then."""
        while not self.run.status.is_final:
            key = order.choice(sorted(self.run.active, key=str))
            active = self.run.active[key]
            if active.is_waiting:
                self.wait_no_more(key)
            elif flaky and self.may_fail(key) and order.random() < 0.3:
                self.fail(key)
            elif flaky and self.may_be_lost(key) and order.random() < 0.2:
                self.fail(key, AttemptStatus.LOST)
            else:
                self.succeed(key)

    def agrees_with_oracle(self) -> None:
        """Check all that came of the run, where no attempt failed for good and nobody cancelled it."""
        oracle = Oracle(self.program.graph, self.program.act, INITIAL, self.winners, self.idle)
        outcome = self.ledger.outcome
        assert outcome is not None
        code = outcome.failure.code if outcome.failure else None
        expected = oracle.run()
        if isinstance(expected, str):
            assert outcome.status is RunStatus.FAILED
            assert code == expected or {code, expected} <= SUDDEN
        else:
            assert (outcome.status, code) == (RunStatus.COMPLETED, None)
            assert outcome.state == expected
        finishes = self.program.graph.on_error is OnError.FINISH and code != "max_steps_exceeded" != expected
        if finishes:
            assert code in {*oracle.codes, expected if isinstance(expected, str) else None}
        if code not in SUDDEN or finishes:
            self._agrees_on_node_runs(oracle)
            self._agrees_on_commits(oracle)

    def _agrees_on_node_runs(self, oracle: Oracle) -> None:
        ran = {key for key, status in self.ledger.node_runs.items() if status is NodeRunStatus.SUCCEEDED}
        failed = {key for key, status in self.ledger.node_runs.items() if status in _FAILED}
        skipped = {key for key, status in self.ledger.node_runs.items() if status is NodeRunStatus.SKIPPED}
        assert (ran, failed, skipped) == (oracle.ran, oracle.failed, oracle.skipped)
        assert self.run.steps == oracle.steps
        cancelled = {key for key, status in self.ledger.node_runs.items() if status is NodeRunStatus.CANCELLED}
        assert cancelled == {key for key, has_begun in self.idle.items() if has_begun}
        for key in self.seen.keys() - cancelled:
            assert self.seen[key] == oracle.state(oracle.saw[key])

    def _agrees_on_commits(self, oracle: Oracle) -> None:
        commits = self.ledger.commits
        keys = {number: commit.key for number, commit in commits.items()}
        for number, commit in commits.items():
            seen, changed = oracle.commits[commit.key]
            past, todo = set[NodeRunKey](), [parent for parent in commit.parents if parent]
            while todo:
                parent = todo.pop()
                if keys[parent] not in past:
                    past.add(keys[parent])
                    todo += [further for further in commits[parent].parents if further]
            assert past == seen
            made = [keys[parent] for parent in commit.parents if parent]
            assert not any(one in oracle.commits[other][0] for one in made for other in made)
            assert {op.key for op in commit.diff.ops} == set(changed)
            assert self.ledger.state_at(number) == oracle.state(seen | {commit.key})
        assert set(keys.values()) == set(oracle.commits)
