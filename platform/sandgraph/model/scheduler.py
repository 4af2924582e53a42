"""The semantics of graphs: a pure state machine over tokens.

`step` takes a run and one event and returns the run as it then is, with the commands that follow. No I/O, no clock: the
dispatcher stores the commands that are records in one transaction, and only then does the rest.

A token is a `View` on an edge. Each edge of the graph resolves to taken (with a view) or skipped; a node whose incoming
edges have all resolved runs once, over the merge of the views that came, or is skipped in its turn (dead-path
elimination). Back edges do not count for that: what arrives on one starts its loop's next iteration once the present
one is over, and the edges that leave a loop resolve when the loop ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sandgraph.model import events
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordEdge,
    RecordNodeRun,
    RecordRun,
    ScheduleRetry,
    StartAttempt,
    StopAttempt,
)
from sandgraph.model.graph import Graph, Node, NodeType, OnMax
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Parents, View, merge
from sandgraph.model.topology import Loop, Topology

_DELETED_KEYS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Active:
    """A node run in progress: its present attempt runs, or its next one is waited for.

    Attributes:
        view: What its attempts see.
        attempt: The present or next attempt.
        lap: A loop node's iteration since it was entered; 1 elsewhere.
        is_waiting: Whether the wait before ``attempt`` is not over yet.
    """

    view: View
    attempt: int = 1
    lap: int = 1
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Everything the scheduler needs to know of a run.

    Attributes:
        graph: A valid graph.
        topology: Its shape.
        status: Of the run.
        active: Node runs in progress.
        resolved: Index of each edge that resolved in the present iteration, and the view on it until a node takes it.
        held: Views on back edges and on edges that leave a loop, until the loop's iteration, or the loop, ends.
        passed: Nodes that are through with the present iteration.
        open_loops: Headers of loops that were entered and have not ended.
        iterations: Node name to the number of its node runs so far.
        ended: Views that had nowhere left to go, by node: at an end, or where no edge was taken.
        parents: The commits since the live branches parted, with their parents.
        commits: Number of the last commit.
        steps: Node runs so far, start and end not counted.
    """

    graph: Graph
    topology: Topology
    status: RunStatus = RunStatus.PENDING
    active: Mapping[NodeRunKey, Active] = field(default_factory=dict)
    resolved: Mapping[int, View | None] = field(default_factory=dict)
    held: Mapping[int, View] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    open_loops: frozenset[str] = frozenset()
    iterations: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, View] = field(default_factory=dict)
    parents: Parents = field(default_factory=dict)
    commits: int = 0
    steps: int = 0


def step(run: Run, event: events.Event) -> tuple[Run, list[Command]]:
    """Return the run after an event, and what follows from it.

    An event that comes too late changes nothing: a result of an attempt that is no longer the present one, or anything
    once the run has ended.
    """
    if run.status.is_final:
        return run, []
    draft = _Draft(run)
    match event:
        case events.RunStarted(state):
            draft.start(View.initial(state))
        case events.AttemptSucceeded():
            if draft.expects(event.key, event.attempt):
                draft.succeed(event)
        case events.AttemptFailed():
            if draft.expects(event.key, event.attempt):
                draft.fail(event)
        case events.RetryDue(key, attempt):
            draft.retry(key, attempt)
        case events.CancelRequested():
            draft.finish(RunStatus.CANCELLED, Failure("cancelled", "The run was cancelled."))
        case events.RunTimedOut(timeout_s):
            failure = Failure("run_timeout", f"The run took longer than the {timeout_s:g} s it may.")
            draft.finish(RunStatus.FAILED, failure)
    draft.settle()
    return draft.freeze(), draft.commands


class _Draft:
    """A run being changed: mutable copies of its parts, and the commands so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.graph = run.graph
        self.topology = run.topology
        self.status = run.status
        self.active = dict(run.active)
        self.resolved = dict(run.resolved)
        self.held = dict(run.held)
        self.passed = set(run.passed)
        self.open_loops = set(run.open_loops)
        self.iterations = dict(run.iterations)
        self.ended = dict(run.ended)
        self.parents = dict(run.parents)
        self.commits = run.commits
        self.steps = run.steps
        self.commands: list[Command] = []
        self._reached: deque[tuple[str, View | None]] = deque()

    def freeze(self) -> Run:
        self._forget()
        return replace(
            self.run,
            status=self.status,
            active=self.active,
            resolved=self.resolved,
            held=self.held,
            passed=frozenset(self.passed),
            open_loops=frozenset(self.open_loops),
            iterations=self.iterations,
            ended=self.ended,
            parents=self.parents,
            commits=self.commits,
            steps=self.steps,
        )

    # What events do

    def start(self, view: View) -> None:
        self.status = RunStatus.RUNNING
        self.commands.append(RecordRun(RunStatus.RUNNING))
        self.parents = {0: ()}
        self._reached.append((self.graph.entry, view))

    def expects(self, key: NodeRunKey, attempt: int) -> bool:
        active = self.active.get(key)
        return active is not None and active.attempt == attempt and not active.is_waiting

    def succeed(self, event: events.AttemptSucceeded) -> None:
        active = self.active.pop(event.key)
        node = self.topology.nodes[event.key.node]
        self.commands.append(RecordAttempt(event.key, event.attempt, AttemptStatus.SUCCEEDED))
        view = active.view
        message = ""
        if not event.entered:
            message = "The loop's condition did not hold: no iteration."
        elif node.function is not None:
            view = self._commit(event, view)
        self.commands.append(RecordNodeRun(event.key, NodeRunStatus.SUCCEEDED, message=message))
        goes_on = node.type is NodeType.LOOP and event.entered and event.again is not False
        if goes_on and active.lap < (node.max_iterations or 1):
            self._begin(node, view, lap=active.lap + 1)
        elif goes_on and node.condition is not None and node.on_max is OnMax.FAIL:
            self.finish(
                RunStatus.FAILED,
                Failure(
                    "max_iterations_reached",
                    f"The loop {node.name!r} ran {active.lap} times and its condition {node.condition} still holds.",
                    node=node.name,
                ),
                last=view,
            )
        else:
            self._leave(node, view, event.after)

    def fail(self, event: events.AttemptFailed) -> None:
        active = self.active[event.key]
        node = self.topology.nodes[event.key.node]
        failure = replace(event.failure, node=node.name)
        self.commands.append(RecordAttempt(event.key, event.attempt, event.status, failure))
        delay_s = node.retry.delay_after(event.attempt, event.status)
        if delay_s is not None:
            self.active[event.key] = replace(active, attempt=event.attempt + 1, is_waiting=True)
            self.commands.append(RecordNodeRun(event.key, NodeRunStatus.RETRYING, failure))
            self.commands.append(ScheduleRetry(event.key, event.attempt + 1, delay_s, node.retry.jitter))
            return
        del self.active[event.key]
        timed_out = event.status is AttemptStatus.TIMEOUT
        status = NodeRunStatus.TIMED_OUT if timed_out else NodeRunStatus.FAILED
        self.commands.append(RecordNodeRun(event.key, status, failure))
        self.finish(RunStatus.FAILED, failure, last=active.view)

    def retry(self, key: NodeRunKey, attempt: int) -> None:
        active = self.active.get(key)
        if active is not None and active.is_waiting and active.attempt == attempt:
            self._attempt(key, replace(active, is_waiting=False))

    def finish(
        self, status: RunStatus, failure: Failure | None = None, view: View | None = None, last: View | None = None
    ) -> None:
        """End the run: whatever is still in progress is cancelled.

        Its state is ``view``, or without one the merge of all branches so far, ``last`` (just taken off its edge) too.
        """
        for key, active in self.active.items():
            if not active.is_waiting:
                self.commands.append(RecordAttempt(key, active.attempt, AttemptStatus.CANCELLED))
                self.commands.append(StopAttempt(key, active.attempt))
            self.commands.append(RecordNodeRun(key, NodeRunStatus.CANCELLED))
        state = (view or self._so_far(last)).state
        self.active.clear()
        self._reached.clear()
        self.status = status
        self.commands.append(RecordRun(status, failure, state))

    # How tokens move

    def settle(self) -> None:
        """Move tokens until nothing moves without an attempt; then the run goes on, or is over."""
        while not self.status.is_final and (self._reached or self._turn_loop()):
            if not self._reached:
                continue
            name, view = self._reached.popleft()
            if view is None:
                self._skip(name)
            else:
                self._begin(self.topology.nodes[name], view)
        if not self.active and not self.status.is_final:
            self._complete()

    def _begin(self, node: Node, view: View, lap: int = 1) -> None:
        iteration = self.iterations.get(node.name, 0) + 1
        self.iterations[node.name] = iteration
        key = NodeRunKey(node.name, iteration)
        self._enter_loop(node.name)
        if node.type not in {NodeType.START, NodeType.END}:
            self.steps += 1
            if self.steps > self.graph.max_steps:
                message = f"The run took {self.graph.max_steps} steps and would go on at {node.name!r}."
                self.finish(RunStatus.FAILED, Failure("max_steps_exceeded", message, node=node.name), last=view)
                return
        self.commands.append(RecordNodeRun(key, NodeRunStatus.RUNNING))
        asks = any(self.graph.edges[i].condition for i in self.topology.outgoing[node.name])
        if node.function is not None or asks:
            self._attempt(key, Active(view, lap=lap))
        else:
            self.commands.append(RecordNodeRun(key, NodeRunStatus.SUCCEEDED))
            self._leave(node, view, ())

    def _attempt(self, key: NodeRunKey, active: Active) -> None:
        node = self.topology.nodes[key.node]
        self.active[key] = active
        is_last = node.type is NodeType.LOOP and active.lap >= (node.max_iterations or 1)
        self.commands.append(StartAttempt(key, active.attempt, active.view, active.lap == 1, is_last))

    def _commit(self, event: events.AttemptSucceeded, view: View) -> View:
        self.commits += 1
        self.parents[self.commits] = view.heads
        self.commands.append(RecordCommit(self.commits, view.heads, event.diff, event.key, event.attempt))
        after = view.after(self.commits, event.diff)
        if len(after.writers) > 2 * len(after.state) + _DELETED_KEYS_KEPT:
            return after.without_old_deletions(self.parents)
        return after

    def _leave(self, node: Node, view: View, answers: tuple[bool, ...]) -> None:
        """Resolve the outgoing edges of a node that is done."""
        self.passed.add(node.name)
        outgoing = self.topology.outgoing[node.name]
        remaining = iter(answers)
        taken: dict[int, bool] = {}
        for i in outgoing:
            edge = self.graph.edges[i]
            taken[i] = not edge.default and (edge.condition is None or next(remaining, False))
        nowhere = not any(taken.values())
        for i in outgoing:
            taken[i] = taken[i] or (nowhere and self.graph.edges[i].default)
        if not any(taken.values()):
            self.ended[node.name] = view
        for i in outgoing:
            self._resolve(i, view if taken[i] else None)

    def _skip(self, name: str) -> None:
        self.passed.add(name)
        self._enter_loop(name)
        iteration = self.iterations.get(name, 0) + 1
        self.iterations[name] = iteration
        self.commands.append(RecordNodeRun(NodeRunKey(name, iteration), NodeRunStatus.SKIPPED))
        for i in self.topology.outgoing[name]:
            self._resolve(i, None)

    def _resolve(self, index: int, view: View | None) -> None:
        if index in self.topology.exits or index in self.topology.back_edges:
            if view is not None:
                self.held[index] = view
            return
        self._arrive(index, view)

    def _arrive(self, index: int, view: View | None) -> None:
        """Resolve an edge for good, and reach its target if that was the last it waited for."""
        edge = self.graph.edges[index]
        self.commands.append(RecordEdge(index, edge.source, edge.target, taken=view is not None))
        self.resolved[index] = view
        waited_for = self.topology.joins[edge.target]
        if all(i in self.resolved for i in waited_for):
            self._reach(edge.target, waited_for, self.resolved)
            self.resolved.update(dict.fromkeys(waited_for))

    def _reach(self, name: str, edges: tuple[int, ...], views: Mapping[int, View | None]) -> None:
        came = [view for i in edges if (view := views.get(i)) is not None]
        if not came:
            self._reached.append((name, None))
            return
        merged, conflicts = merge(self.parents, came)
        if conflicts:
            sources = " and ".join(repr(self.graph.edges[i].source) for i in edges if views.get(i) is not None)
            message = f"The branches that meet at {name!r}, from {sources}, both set the key {conflicts[0].key!r}."
            self.finish(RunStatus.FAILED, Failure("state_conflict", message, node=name), last=merged)
        else:
            self._reached.append((name, merged))

    # Loops of ordinary edges

    def _enter_loop(self, name: str) -> None:
        if any(loop.header == name for loop in self.topology.loops):
            self.open_loops.add(name)

    def _turn_loop(self) -> bool:
        """Start the next iteration of a loop whose present one is over, or end the loop; innermost first."""
        for loop in self.topology.loops:
            if loop.header in self.open_loops and self._is_over(loop):
                self._turn(loop)
                return True
        return False

    def _is_over(self, loop: Loop) -> bool:
        inner = (each.header for each in self.topology.loops if each.header in loop.nodes)
        return loop.nodes <= self.passed and all(h == loop.header or h not in self.open_loops for h in inner)

    def _turn(self, loop: Loop) -> None:
        back = {i: self.held.pop(i) for i in loop.back_edges if i in self.held}
        for i in loop.back_edges:
            edge = self.graph.edges[i]
            self.commands.append(RecordEdge(i, edge.source, edge.target, taken=i in back))
        if not back:
            self.open_loops.discard(loop.header)
            for i in loop.exits:
                self._resolve_exit(i)
            return
        self.passed -= loop.nodes
        for i in loop.inside:
            self.resolved.pop(i, None)
            self.held.pop(i, None)
        self._reach(loop.header, loop.back_edges, back)

    def _resolve_exit(self, index: int) -> None:
        view = self.held.pop(index, None)
        if index in self.topology.back_edges:
            # It leaves this loop by starting the next iteration of one around it.
            if view is not None:
                self.held[index] = view
            return
        self._arrive(index, view)

    # How a run ends

    def _complete(self) -> None:
        ends = [node.name for node in self.graph.nodes if node.type is NodeType.END]
        order = [node.name for node in self.graph.nodes if node.name in self.ended and (not ends or node.name in ends)]
        if not order:
            message = "No path reached an end: after the last node that ran, no edge's condition held."
            self.finish(RunStatus.FAILED, Failure("end_not_reached", message))
            return
        view, conflicts = merge(self.parents, [self.ended[name] for name in order])
        if conflicts:
            message = f"The branches that ended at {' and '.join(map(repr, order))} both set {conflicts[0].key!r}."
            self.finish(RunStatus.FAILED, Failure("state_conflict", message))
        else:
            self.finish(RunStatus.COMPLETED, view=view)

    def _live(self) -> list[View]:
        views = [active.view for active in self.active.values()]
        views += [view for view in self.resolved.values() if view is not None]
        return [*views, *self.held.values(), *self.ended.values(), *(view for _, view in self._reached if view)]

    def _so_far(self, last: View | None) -> View:
        live = [*self._live(), *([last] if last else [])]
        return merge(self.parents, live or [View.initial({})])[0]

    def _forget(self) -> None:
        """Drop what no join can ask about any more: commits before the live branches parted, views that were taken."""
        live = {view.heads for view in self._live()}
        if len(live) == 1:
            self.parents = dict.fromkeys(live.pop(), ())
