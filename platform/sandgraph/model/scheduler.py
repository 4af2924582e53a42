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
from sandgraph.model.retry import LOST
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import MergeConflict, Parents, State, View, compact, merge
from sandgraph.model.topology import Loop, Topology

#: Keys whose deletion a run remembers beyond one a key of its state, before it looks which it may forget.
_DELETED_KEYS_KEPT = 1_000

#: Keys that a branch may delete while others are open, as a join must know of each; with more its run fails.
MAX_DELETED_KEYS = 10_000

#: Commits after which those that nothing refers to are dropped.
_COMPACT_EVERY = 256


@dataclass(frozen=True, slots=True)
class Active:
    """A node run in progress: its present attempt runs, or its next one is waited for.

    Attributes:
        view: What its attempts see.
        attempt: The present or next attempt.
        lost: How many of those before it were lost.
        lap: A loop node's iteration since it was entered; 1 elsewhere.
        is_waiting: Whether the wait before ``attempt`` is not over yet.
    """

    view: View
    attempt: int = 1
    lost: int = 0
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
        iterations: Node name to the number of its node runs so far, skipped ones among them.
        ended: Views that reached an end, by node.
        stopped: Nodes other than ends that were left by no edge.
        parents: Of the commits since the live branches parted, as far as a merge may ask about them.
        authors: Of the same commits, the nodes that made them.
        latest: The initial state with every commit applied in turn; None before the run began.
        commits: Number of the last commit.
        steps: Node runs so far, start and end not counted, nor skipped ones.
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
    stopped: frozenset[str] = frozenset()
    parents: Parents = field(default_factory=dict)
    authors: Mapping[int, str] = field(default_factory=dict)
    latest: State | None = None
    commits: int = 0
    steps: int = 0


def step(run: Run, event: events.Event) -> tuple[Run, list[Command]]:
    """Return the run after an event, and what follows from it.

    An event that comes too late or too early changes nothing: a result of an attempt that is no longer the present one,
    a second start, or anything once the run has ended.
    """
    if run.status.is_final:
        return run, []
    draft = _Draft(run)
    match event:
        case events.RunStarted(state) if run.status is RunStatus.PENDING:
            draft.start(state)
        case events.AttemptSucceeded(key, attempt) if draft.expects(key, attempt):
            draft.succeed(event)
        case events.AttemptFailed(key, attempt) if draft.expects(key, attempt):
            draft.fail(event)
        case events.RetryDue(key, attempt) if draft.expects(key, attempt, waiting=True):
            draft.retry(key)
        case events.CancelRequested():
            draft.finish(RunStatus.CANCELLED, Failure("cancelled", "The run was cancelled."))
        case events.RunTimedOut(timeout_s):
            failure = Failure("run_timeout", f"The run took longer than the {timeout_s:g} s it may.")
            draft.finish(RunStatus.FAILED, failure)
        case _:
            return run, []
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
        self.stopped = set(run.stopped)
        self.parents = dict(run.parents)
        self.authors = dict(run.authors)
        self.latest = run.latest
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
            stopped=frozenset(self.stopped),
            parents=self.parents,
            authors=self.authors,
            latest=self.latest,
            commits=self.commits,
            steps=self.steps,
        )

    # What events do

    def start(self, state: State) -> None:
        self.status = RunStatus.RUNNING
        self.commands.append(RecordRun(RunStatus.RUNNING))
        self.parents = {0: ()}
        self.latest = state
        self._reached.append((self.graph.entry, View.initial(state)))

    def expects(self, key: NodeRunKey, attempt: int, *, waiting: bool = False) -> bool:
        active = self.active.get(key)
        return active is not None and active.attempt == attempt and active.is_waiting is waiting

    def succeed(self, event: events.AttemptSucceeded) -> None:
        active = self.active.pop(event.key)
        node = self.topology.nodes[event.key.node]
        self.commands.append(RecordAttempt(event.key, event.attempt, AttemptStatus.SUCCEEDED))
        view = active.view
        message = "" if event.entered else "The loop's condition did not hold: no iteration."
        if event.entered and node.function is not None:
            view = self._commit(event, view)
        self.commands.append(RecordNodeRun(event.key, NodeRunStatus.SUCCEEDED, message=message))
        goes_on = node.type is NodeType.LOOP and event.entered and event.again is not False
        if goes_on and active.lap < (node.max_iterations or 1):
            self._begin(node, view, lap=active.lap + 1)
        elif goes_on and node.condition is not None and node.on_max is OnMax.FAIL:
            message = f"The loop {node.name!r} ran {active.lap} times and its condition {node.condition} still holds."
            self.finish(RunStatus.FAILED, Failure("max_iterations_reached", message, node=node.name))
        else:
            self._leave(node, view, event.after)

    def fail(self, event: events.AttemptFailed) -> None:
        active = self.active[event.key]
        node = self.topology.nodes[event.key.node]
        failure = replace(event.failure, node=node.name)
        self.commands.append(RecordAttempt(event.key, event.attempt, event.status, failure))
        is_lost = event.status is AttemptStatus.LOST
        lost = active.lost + is_lost
        retry, attempts = (LOST, lost) if is_lost else (node.retry, event.attempt - lost)
        delay_s = retry.delay_after(attempts, event.status)
        if delay_s is not None:
            self.active[event.key] = replace(active, attempt=event.attempt + 1, lost=lost, is_waiting=True)
            self.commands.append(RecordNodeRun(event.key, NodeRunStatus.RETRYING, failure))
            self.commands.append(ScheduleRetry(event.key, event.attempt + 1, delay_s, retry.jitter))
            return
        del self.active[event.key]
        if is_lost:
            failure = replace(failure, message=f"Attempts were lost {lost} times; of the last one: {failure.message}")
        timed_out = event.status is AttemptStatus.TIMEOUT
        status = NodeRunStatus.TIMED_OUT if timed_out else NodeRunStatus.FAILED
        self.commands.append(RecordNodeRun(event.key, status, failure))
        self.finish(RunStatus.FAILED, failure)

    def retry(self, key: NodeRunKey) -> None:
        self._attempt(key, replace(self.active[key], is_waiting=False))

    def finish(self, status: RunStatus, failure: Failure | None = None, state: State | None = None) -> None:
        """End the run and cancel what is in progress; ``state`` is its final one, or else all that was committed."""
        for key, active in self.active.items():
            if not active.is_waiting:
                self.commands.append(RecordAttempt(key, active.attempt, AttemptStatus.CANCELLED))
                self.commands.append(StopAttempt(key, active.attempt))
            self.commands.append(RecordNodeRun(key, NodeRunStatus.CANCELLED))
        self.active.clear()
        self._reached.clear()
        self.status = status
        self.commands.append(RecordRun(status, failure, self.latest if state is None else state))

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
        if node.name in self.topology.loops:
            self.open_loops.add(node.name)
        if failure := self._over_bounds(node, view):
            self.finish(RunStatus.FAILED, failure)
            return
        self.commands.append(RecordNodeRun(key, NodeRunStatus.RUNNING))
        asks = any(self.graph.edges[i].condition for i in self.topology.outgoing[node.name])
        if node.function is not None or asks:
            self._attempt(key, Active(view, lap=lap))
        else:
            self.commands.append(RecordNodeRun(key, NodeRunStatus.SUCCEEDED))
            self._leave(node, view, ())

    def _over_bounds(self, node: Node, view: View) -> Failure | None:
        self.steps += node.type not in {NodeType.START, NodeType.END}
        if self.steps > self.graph.max_steps:
            message = f"The run took {self.graph.max_steps} steps and would go on at {node.name!r}."
            return Failure("max_steps_exceeded", message, node=node.name)
        if len(view.writers) - len(view.state) > MAX_DELETED_KEYS:
            message = f"Before {node.name!r} a branch deleted more than {MAX_DELETED_KEYS} keys while others were open."
            return Failure("too_many_deleted_keys", message, node=node.name)
        return None

    def _attempt(self, key: NodeRunKey, active: Active) -> None:
        node = self.topology.nodes[key.node]
        self.active[key] = active
        is_loop = node.type is NodeType.LOOP
        is_last = is_loop and active.lap >= (node.max_iterations or 1)
        self.commands.append(StartAttempt(key, active.attempt, active.view, is_loop and active.lap == 1, is_last))

    def _commit(self, event: events.AttemptSucceeded, view: View) -> View:
        diff = event.diff.without_idle_deletes(view.state)
        self.commits += 1
        self.parents[self.commits] = view.heads
        self.authors[self.commits] = event.key.node
        self.commands.append(RecordCommit(self.commits, view.heads, diff, event.key, event.attempt))
        after = view.after(self.commits, diff)
        self.latest = after.state if self.latest is view.state else diff.apply(self.latest or {})
        if len(after.writers) > 2 * len(after.state) + _DELETED_KEYS_KEPT:
            return after.without_old_deletions(self.parents)
        return after

    def _leave(self, node: Node, view: View, answers: tuple[bool, ...]) -> None:
        """Resolve the outgoing edges of a node that is done."""
        self.passed.add(node.name)
        remaining = iter(answers)
        taken: dict[int, bool] = {}
        for i in self.topology.outgoing[node.name]:
            edge = self.graph.edges[i]
            taken[i] = not edge.default and (edge.condition is None or next(remaining, False))
        if not any(taken.values()):
            taken = {i: self.graph.edges[i].default for i in taken}
        self.stopped.discard(node.name)
        if node.name in self.topology.ends:
            self.ended[node.name] = view
        elif not any(taken.values()):
            self.stopped.add(node.name)
        for i, is_taken in taken.items():
            self._resolve(i, view if is_taken else None)

    def _skip(self, name: str) -> None:
        self.passed.add(name)
        if name in self.topology.loops:
            self.open_loops.add(name)
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
        if self.status.is_final:
            return
        edge = self.graph.edges[index]
        self.commands.append(RecordEdge(index, edge.source, edge.target, taken=view is not None))
        self.resolved[index] = view
        waited_for = self.topology.joins[edge.target]
        if all(i in self.resolved for i in waited_for):
            came = [view for i in waited_for if (view := self.resolved[i]) is not None]
            self.resolved.update(dict.fromkeys(waited_for))
            self._reach(edge.target, came)

    def _reach(self, name: str, came: list[View]) -> None:
        """Let a node run over what came, once nothing more can come; skip it if nothing did."""
        if not came:
            self._reached.append((name, None))
            return
        merged, conflicts = merge(self.parents, came)
        if conflicts:
            self._conflict(conflicts[0], f"before they meet at {name!r}", name)
        else:
            self._reached.append((name, merged))

    def _conflict(self, conflict: MergeConflict, where: str, node: str | None = None) -> None:
        first, second = self.authors[conflict.first], self.authors[conflict.second]
        who = f"{first!r} and {second!r}" if first != second else f"Two iterations of {first!r}"
        message = f"{who} changed the key {conflict.key!r} {where}, and neither saw what the other did."
        self.finish(RunStatus.FAILED, Failure("state_conflict", message, node=node))

    # Loops of ordinary edges

    def _turn_loop(self) -> bool:
        """Start the next iteration of a loop whose present one is over, or end the loop; inner ones first."""
        for header, loop in self.topology.loops.items():
            if header in self.open_loops and loop.nodes <= self.passed:
                self._turn(loop)
                return True
        return False

    def _turn(self, loop: Loop) -> None:
        back = {i: self.held.pop(i) for i in loop.back_edges if i in self.held}
        for i in loop.back_edges:
            edge = self.graph.edges[i]
            self.commands.append(RecordEdge(i, edge.source, edge.target, taken=i in back))
        if back:
            self.passed -= loop.nodes
            for i in loop.inside:
                self.resolved.pop(i, None)
            self._reach(loop.header, list(back.values()))
            return
        self.open_loops.discard(loop.header)
        for i in loop.exits:
            # A back edge that leaves this loop starts the next iteration of one around it, and stays held until then.
            if i not in self.topology.back_edges:
                self._arrive(i, self.held.pop(i, None))

    # How a run ends

    def _complete(self) -> None:
        order = [name for name in self.topology.ends if name in self.ended]
        if not order:
            stopped = [repr(node.name) for node in self.graph.nodes if node.name in self.stopped]
            message = f"No path reached an end: no edge was taken from {' and '.join(stopped)}."
            self.finish(RunStatus.FAILED, Failure("end_not_reached", message))
            return
        view, conflicts = merge(self.parents, [self.ended[name] for name in order])
        if conflicts:
            self._conflict(conflicts[0], f"before the ends {' and '.join(map(repr, order))}")
        else:
            self.finish(RunStatus.COMPLETED, state=view.state)

    def _forget(self) -> None:
        """Drop what no merge can ask about any more: above all, commits before the live branches parted."""
        live = [active.view for active in self.active.values()]
        live += (view for view in self.resolved.values() if view is not None)
        live += (*self.held.values(), *self.ended.values())
        heads = {view.heads for view in live}
        if len(heads) == 1:
            self.parents = dict.fromkeys(heads.pop(), ())
        elif self.commits > self.run.commits and self.commits % _COMPACT_EVERY == 0 and live:
            self.parents = dict(compact(self.parents, live))
        else:
            return
        self.authors = {number: self.authors[number] for number in self.parents if number}
