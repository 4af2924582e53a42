"""Runs of programs, told what happens to them from outside, and held against the oracle at their end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from tests.unit.model.graphs import shape
from tests.unit.model.ledger import Ledger
from tests.unit.model.oracle import Decided, Oracle, cycles
from tests.unit.model.playbook import diff_of
from tests.unit.model.programs import INITIAL, Program

from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordEdge, RecordNodeRun
from sandgraph.model.event_document import from_document, to_document
from sandgraph.model.graph import Graph, NodeType, OnError
from sandgraph.model.progress import Active, Blueprint
from sandgraph.model.retry import MAX_LOST
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json, StateDiff

#: Failures that end a run at once: which of several comes first is a matter of time.
SUDDEN = {"state_conflict", "max_steps_exceeded", "max_iterations_reached", "no_result", "timeout"}

_FAILED = {NodeRunStatus.FAILED, NodeRunStatus.TIMED_OUT}


class Simulation:
    """A run of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graphs = {name: inner.graph for name, inner in program.all_subgraphs().items()}
        blueprints = {name: Blueprint(graph, shape(graph)) for name, graph in self.graphs.items()}
        self.fresh = scheduler.Run(program.graph, shape(program.graph), subgraphs=blueprints)
        self.run = self.fresh
        self.ledger = Ledger(INITIAL)
        self.told: list[events.Event] = []
        self.seen: dict[NodeRunKey, object] = {}
        self.decided = Decided()
        self._came: dict[tuple[str, str], set[int]] = {}
        self.tell(events.RunStarted(INITIAL))

    @property
    def winners(self) -> dict[NodeRunKey, set[int]]:
        return self.decided.winners

    @property
    def idle(self) -> dict[NodeRunKey, bool]:
        return self.decided.idle

    def tell(self, event: events.Event) -> bool:
        """Tell the run something, and say whether it did anything about it."""
        before = self.run.status
        self.run, commands = scheduler.step(self.run, event)
        assert not (before.is_final and commands)
        self.ledger.take(self.run, commands)
        self.told.append(event)
        self._keep_what_time_decided(commands)
        self.seen |= {key: start.view.state for key, start in self.ledger.running.items() if not start.asks_only}
        return bool(commands)

    def is_told_again(self) -> None:
        """Make the run again from the documents of what it was told."""
        run = self.fresh
        for event in self.told:
            diff = event.diff if isinstance(event, events.AttemptSucceeded) else StateDiff()
            stored = json.loads(json.dumps(to_document(event)))
            run, _ = scheduler.step(run, from_document(stored, INITIAL, diff))
        assert run == self.run

    def _graph(self, scope: str) -> Graph:
        return self.program.around(NodeRunKey("", 1, scope)).graph

    def _keep_what_time_decided(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, RecordNodeRun) and command.failure and command.failure.code == "max_steps_exceeded":
                self.decided.exceeded.add(command.key)
            match command:
                case RecordEdge(index, _, target, True, scope) if index not in self._back_edges(scope):
                    self._came.setdefault((scope, target), set()).add(index)
                case RecordNodeRun(key, NodeRunStatus.FAILED) if any(scope == key.path for scope, _ in self._came):
                    self._keep_what_came(key.path)
                case RecordNodeRun(key, status, _, message):
                    if key not in self.winners:
                        self.winners[key] = self._came.pop((key.scope, key.node), set())
                        if message.startswith("What it leads to"):
                            self._give_up(key, has_begun=False)
                    elif status is NodeRunStatus.CANCELLED and message:
                        self._give_up(key, has_begun=True)
                case _:
                    pass
        if self.run.status.is_final and self.run.status is not RunStatus.COMPLETED:
            self._keep_what_came("")

    def _back_edges(self, scope: str) -> frozenset[int]:
        graph_id = next((name for name, graph in self.graphs.items() if graph is self._graph(scope)), None)
        return (self.run.subgraphs[graph_id] if graph_id else self.run).topology.back_edges

    def _keep_what_came(self, scope: str) -> None:
        """Enter the winners of joins that had all that they needed, where all was over before they began."""
        joins = {node.name: node.join for node in self._graph(scope).nodes}
        for name in [name for of, name in self._came if of == scope]:
            came = self._came.pop((scope, name))
            if len(came) == joins[name]:
                earlier = sum((key.scope, key.node) == (scope, name) for key in self.ledger.node_runs)
                self.winners[NodeRunKey(name, earlier + 1, scope)] = came

    def _give_up(self, key: NodeRunKey, *, has_begun: bool) -> None:
        """Enter what a join did not wait for: it must not lead to anything but such joins, and they must have begun."""
        self.idle[key] = has_begun
        if self.run.status is RunStatus.FAILED or key.scope:
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

    # What may happen to it

    def active(self, key: NodeRunKey) -> Active:
        return dict(self.run.attempts())[key]

    def runs(self) -> Iterator[scheduler.Run]:
        """Yield the run, and what is inside its subgraphs."""
        todo = [self.run]
        while todo:
            run = todo.pop()
            yield run
            todo += (inner.run for inner in run.inside.values())

    def waits(self) -> list[NodeRunKey]:
        return [key for run in self.runs() for key in run.waits]

    def succeed(self, key: NodeRunKey, *, is_amended: bool = False) -> None:
        """Let an attempt come back as the program says, which may be that it fails."""
        active = self.active(key)
        if active.item is not None:
            result = self.program.item(key)
            if isinstance(result, AttemptStatus):
                self.fail(key, result)
            else:
                self.tell(events.AttemptSucceeded(key, active.attempt, diff_of({"no": "diff"}), value=result))
            return
        act = self.program.act(key)
        if act.fails and not active.asks_only:
            self.fail(key, act.fails)
            return
        there = active.view.state
        added: dict[str, Json] = {name: _plus(there.get(name), what) for name, what in act.adds.items()}
        diff = diff_of(act.changes | added, act.deletes)
        again, after = (None, ()) if is_amended else (act.again, act.after)
        self.tell(events.AttemptSucceeded(key, active.attempt, diff, act.entered, again, after, is_amended=is_amended))

    def may_be_amended(self, key: NodeRunKey) -> bool:
        """Tell whether its conditions, if any, can be asked anew in an attempt of their own."""
        active = self.active(key)
        return active.item is None and not active.asks_only and not self.program.act(key).fails

    def fail(self, key: NodeRunKey, status: AttemptStatus = AttemptStatus.ERROR) -> None:
        attempt = self.active(key).attempt
        self.tell(events.AttemptFailed(key, attempt, status, Failure(status, "It broke.")))

    def may_fail(self, key: NodeRunKey) -> bool:
        """Tell whether there is another attempt if the present one fails."""
        failed = [status for (of, _), status in self.ledger.attempts.items() if of == key]
        others = [status for status in failed if status is not AttemptStatus.LOST]
        return len(others) + 1 < self.program.around(key).node(key.node).retry.max_attempts

    def may_be_lost(self, key: NodeRunKey) -> bool:
        """Tell whether there is another attempt if the present one is lost."""
        lost = [of for (of, _), status in self.ledger.attempts.items() if of == key and status is AttemptStatus.LOST]
        return len(lost) + 1 < MAX_LOST

    def wait_no_more(self, key: NodeRunKey) -> None:
        self.tell(events.RetryDue(key, self.active(key).attempt))

    def send(self, name: str, payload: Json) -> None:
        self.tell(events.EventReceived(name, payload, f"e{len(self.ledger.received)}"))

    def elapse(self, key: NodeRunKey) -> None:
        """Let the time of a wait, a map or a subgraph be over."""
        self.tell(events.TimeElapsed(key))
        if self.ledger.node_runs[key] is NodeRunStatus.TIMED_OUT:
            self.decided.overran.add(key)

    def end_wait(self, key: NodeRunKey, order: Random) -> None:
        node = self.program.around(key).node(key.node)
        if node.event is None or (node.timeout_s is not None and order.random() < 0.2):
            self.elapse(key)
        else:
            self.send(node.event, order.choice([None, f"payload {len(self.told)}"]))

    def finish(self, order: Random, *, flaky: bool = False) -> None:
        """Go on until the run ends; an attempt that may be tried again fails now and then."""
        while not self.run.status.is_final:
            can_go_on = self.ledger.running or self.ledger.waiting or self.waits()
            if self.run.is_paused and (not can_go_on or order.random() < 0.3):
                self.tell(events.UnpauseRequested())
                continue
            if flaky and order.random() < 0.1:
                self._disturb(order)
                continue
            keys = sorted([*self.ledger.running, *self.ledger.waiting, *self.waits()], key=str)
            key = order.choice(keys)
            if key in self.ledger.waiting:
                self.wait_no_more(key)
            elif key not in self.ledger.running:
                self.end_wait(key, order)
            elif flaky and self.may_fail(key) and order.random() < 0.3:
                self.fail(key)
            elif flaky and self.may_be_lost(key) and order.random() < 0.2:
                self.fail(key, AttemptStatus.LOST)
            else:
                self.succeed(key, is_amended=flaky and self.may_be_amended(key) and order.random() < 0.1)

    def _disturb(self, order: Random) -> None:
        what = order.randrange(4)
        if what == 0:
            self.tell(events.PauseRequested())
        elif what == 1 and all(map(self.may_be_lost, self.ledger.running)):
            self.tell(events.Reopened())
        elif what == 2 and self.ledger.timers:
            self.elapse(order.choice(sorted(self.ledger.timers, key=str)))
        elif what == 3 and len(self.ledger.received) < 5:
            self.send(order.choice(["go", "come", "nobody"]), f"early {len(self.told)}")

    # What came of it

    def is_complete(self, key: NodeRunKey) -> bool:
        """Tell whether all subgraphs around a node run succeeded, so that all in them is as it must be."""
        if not key.scope:
            return True
        around = next((each for each in self.ledger.node_runs if key.scope == each.path), None)
        return (
            around is not None and self.ledger.node_runs[around] is NodeRunStatus.SUCCEEDED and self.is_complete(around)
        )

    def _enter_the_rest(self) -> None:
        """Enter what waits took, and the steps in subgraphs that did not come to their end."""
        payloads = {event.event_id: event.payload for event in self.told if isinstance(event, events.EventReceived)}
        self.decided.took = {key: payloads[event_id] for event_id, key in self.ledger.taken.items()}
        for key, status in self.ledger.node_runs.items():
            node = self.program.around(key).node(key.node)
            if node.type is NodeType.SUBGRAPH and status is not NodeRunStatus.SUCCEEDED:
                within = [each for each in self.ledger.node_runs if f"{each.scope}/".startswith(f"{key.path}/")]
                self.decided.inside[key] = sum(map(self._steps, within))

    def _steps(self, key: NodeRunKey) -> int:
        node = self.program.around(key).node(key.node)
        is_none = node.type in {NodeType.START, NodeType.END} or self.program.map_of(key)
        if is_none or self.ledger.node_runs[key] is NodeRunStatus.SKIPPED:
            return 0
        items = INITIAL.get(node.items or "")
        return 1 + (len(items) if isinstance(items, list) else 0)

    def agrees_with_oracle(self) -> None:
        """Check all that came of the run, where no attempt failed for good and nobody cancelled it."""
        self._enter_the_rest()
        oracle = Oracle(self.program.graph, self.program.act, INITIAL, self.decided, self.graphs)
        outcome = self.ledger.outcome
        assert outcome is not None
        code = outcome.failure.code if outcome.failure else None
        expected = oracle.run()
        # That no end was reached ends a subgraph, which may end its run.
        sudden = SUDDEN | ({"end_not_reached"} if self.graphs else set())
        if code == "max_steps_exceeded" and self.decided.inside:
            # What of a subgraph was the last step depends on time.
            return
        if isinstance(expected, str):
            assert outcome.status is RunStatus.FAILED
            assert code == expected or {code, expected} <= sudden
        else:
            assert (outcome.status, code) == (RunStatus.COMPLETED, None)
            assert outcome.state is not None
            assert plain(outcome.state) == plain(expected)
        finishes = self.program.graph.on_error is OnError.FINISH and code != "max_steps_exceeded" != expected
        if finishes:
            codes = {*oracle.codes, expected if isinstance(expected, str) else None}
            assert code in codes or (self.graphs and code in sudden and codes & sudden)
        is_sudden = code in SUDDEN or (outcome.failure is not None and outcome.failure.node is not None)
        if finishes or not is_sudden:
            self._agrees_on_node_runs(oracle)
            self._agrees_on_commits(oracle)

    def _with(self, *statuses: NodeRunStatus) -> set[NodeRunKey]:
        found = {key for key, status in self.ledger.node_runs.items() if status in statuses}
        return {key for key in found if self.is_complete(key) and not self.program.map_of(key)}

    def _agrees_on_node_runs(self, oracle: Oracle) -> None:
        ran, failed, skipped = (
            self._with(NodeRunStatus.SUCCEEDED),
            self._with(*_FAILED),
            self._with(NodeRunStatus.SKIPPED),
        )
        assert ran == set(filter(self.is_complete, oracle.ran))
        assert failed == set(filter(self.is_complete, oracle.failed))
        assert skipped == set(filter(self.is_complete, oracle.skipped))
        assert self.run.steps == oracle.steps
        cancelled = self._with(NodeRunStatus.CANCELLED)
        assert cancelled == {key for key, has_begun in self.idle.items() if has_begun and self.is_complete(key)}
        for key, state in self.seen.items():
            of = self.program.map_of(key) or key
            if self.is_complete(of) and of not in cancelled:
                assert plain(state) == plain(oracle.states[of])

    def _agrees_on_commits(self, oracle: Oracle) -> None:
        commits = self.ledger.commits
        keys = {number: commit.key for number, commit in commits.items()}
        # What loses a race while conditions are asked behind its commit has made that.
        cancelled = self._with(NodeRunStatus.CANCELLED)
        made = {key for key in keys.values() if self.is_complete(key) and key not in cancelled}
        assert made == set(filter(self.is_complete, oracle.made))
        for number, commit in commits.items():
            if commit.key not in made:
                continue
            seen, changed, state = oracle.made[commit.key]
            past, todo = set[NodeRunKey](), [parent for parent in commit.parents if parent]
            while todo:
                parent = todo.pop()
                if keys[parent] not in past:
                    past.add(keys[parent])
                    todo += [further for further in commits[parent].parents if further]
            assert past == seen
            parents = [keys[parent] for parent in commit.parents if parent]
            assert not any(one in oracle.made[other][0] for one in parents for other in parents)
            assert {op.key for op in commit.diff.ops} == changed
            assert plain(self.ledger.state_at(number)) == plain(state)


def plain(state: object) -> dict[str, object]:
    """Return a state without the order of what was added to a list."""
    assert isinstance(state, dict)
    return {name: sorted(value) if name == "log" else value for name, value in state.items()}


def _plus(before: Json, what: Json) -> Json:
    if isinstance(what, list):
        return [*(before if isinstance(before, list) else []), *what]
    assert isinstance(what, int)
    return what + (before if isinstance(before, int) else 0)
