"""The semantics of graphs: a pure state machine over tokens.

`step` takes a run and one event and returns the run as it then is, with the commands that follow. No I/O, no clock: the
dispatcher stores the commands that are records in one transaction, and only then does the rest.

Each edge of the graph comes to be taken, by a `Token` that carries a view, or skipped; a node whose incoming edges have
all resolved runs once, over the merge of the views that came, or is skipped in its turn (dead-path elimination). A join
may start with the first that come; what can lead nowhere else is then cancelled, or skipped before it begins. Back
edges do not count for that: what arrives on one starts its loop's next iteration once the present one is over, and the
edges that leave a loop resolve when the loop ends. A node that failed for good is left by the edges that ask for that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sandgraph.model import events
from sandgraph.model.commands import Command, RecordAttempt, RecordEdge, RecordNodeRun, RecordRun, ScheduleRetry
from sandgraph.model.draft import Draft
from sandgraph.model.graph import Node, NodeType, OnError, OnMax, Outcome
from sandgraph.model.joins import unneeded
from sandgraph.model.progress import Active, Run, Token
from sandgraph.model.retry import LOST
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import State, View, merge
from sandgraph.model.topology import Loop

__all__ = ["Active", "Run", "step"]

_UNNEEDED = "What it leads to has started without it."


def step(run: Run, event: events.Event) -> tuple[Run, list[Command]]:
    """Return the run after an event, and what follows from it.

    An event that comes too late or too early changes nothing: a result of an attempt that is no longer the present one,
    a second start, or anything once the run has ended.
    """
    if run.status.is_final:
        return run, []
    draft = _Steps(run)
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


class _Steps(Draft):
    """What each event does to a run, and how its tokens move."""

    # What events do

    def start(self, state: State) -> None:
        self.status = RunStatus.RUNNING
        self.commands.append(RecordRun(RunStatus.RUNNING))
        self.parents = {0: ()}
        self.latest = state
        self.reached.append((self.graph.entry, Token(is_taken=True, views=(View.initial(state),))))

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
            view = self.commit(event, view)
        goes_on = node.type is NodeType.LOOP and event.entered and event.again is not False
        is_last = active.lap >= (node.max_iterations or 1)
        too_often = goes_on and is_last and node.condition is not None and node.on_max is OnMax.FAIL
        if too_often:
            message = f"The loop {node.name!r} ran {active.lap} times and its condition {node.condition} still holds."
        self.commands.append(RecordNodeRun(event.key, NodeRunStatus.SUCCEEDED, message=message))
        if too_often:
            self._break(node, view, Outcome.FAILED, Failure("max_iterations_reached", message, node=node.name))
        elif goes_on and not is_last:
            self._begin(node, view, lap=active.lap + 1)
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
        outcome = Outcome.TIMED_OUT if event.status is AttemptStatus.TIMEOUT else Outcome.FAILED
        self.commands.append(RecordNodeRun(event.key, NodeRunStatus(outcome.value), failure))
        self._break(node, active.view, outcome, failure)

    def retry(self, key: NodeRunKey) -> None:
        self.attempt(key, replace(self.active[key], is_waiting=False))

    # How tokens move

    def settle(self) -> None:
        """Move tokens until nothing moves without an attempt; then the run goes on, or is over."""
        while not self.status.is_final and (self.reached or self._turn_loop()):
            if not self.reached:
                continue
            name, token = self.reached.popleft()
            if name in self.unneeded:
                self._record_skip(name, message=_UNNEEDED)
                self._resolve(name, (), ())
            elif token.broken_by is not None:
                self._pass_over(name, token.broken_by)
            elif token.is_taken:
                self._begin(self.topology.nodes[name], token.views[0])
            else:
                self._skip(name, token.views)
        if not self.active and not self.status.is_final:
            self._complete()

    def _begin(self, node: Node, view: View, lap: int = 1) -> None:
        iteration = self.iterations.get(node.name, 0) + 1
        self.iterations[node.name] = iteration
        key = NodeRunKey(node.name, iteration)
        if node.name in self.topology.loops:
            self.open_loops.add(node.name)
        if failure := self.over_bounds(node, view):
            self.finish(RunStatus.FAILED, failure)
            return
        self.commands.append(RecordNodeRun(key, NodeRunStatus.RUNNING))
        asks = any(self.graph.edges[i].condition for i in self.topology.outgoing[node.name])
        if node.function is not None or asks:
            self.attempt(key, Active(view, lap=lap))
        else:
            self.commands.append(RecordNodeRun(key, NodeRunStatus.SUCCEEDED))
            self._leave(node, view, ())

    def _leave(self, node: Node, view: View, answers: tuple[bool, ...]) -> None:
        """Resolve the outgoing edges of a node that succeeded."""
        remaining = iter(answers)
        taken, defaults = list[int](), list[int]()
        for i in self._edges(node.name, Outcome.SUCCEEDED):
            edge = self.graph.edges[i]
            if edge.default:
                defaults.append(i)
            elif edge.condition is None or next(remaining, False):
                taken.append(i)
        taken = taken or defaults
        self.stopped.discard(node.name)
        if node.name in self.topology.ends:
            self.ended[node.name] = view
        elif not taken:
            self.stopped.add(node.name)
        self._resolve(node.name, taken, (view,))

    def _break(self, node: Node, view: View, outcome: Outcome, failure: Failure) -> None:
        """Resolve the outgoing edges of a node that failed; without one for that the run fails, now or in the end."""
        if taken := self._edges(node.name, outcome):
            self._resolve(node.name, taken, (view,))
        elif self._goes_on_after(failure):
            self._cut_off(node.name, node.name)

    def _goes_on_after(self, failure: Failure) -> bool:
        """Keep a failure for the end of the run if that is what the graph asks for, or else end it here."""
        if self.graph.on_error is OnError.FAIL_FAST:
            self.finish(RunStatus.FAILED, failure)
            return False
        self.failure = self.failure or failure
        return True

    def _cut_off(self, name: str, broken_by: str) -> None:
        """Resolve the outgoing edges of a node so that nothing starts that depends on it."""
        self.broken[name] = broken_by
        self._send(name, (), Token(is_taken=False, broken_by=broken_by))

    def _pass_over(self, name: str, broken_by: str, failure: Failure | None = None) -> None:
        """Record a node that cannot start, as another failed or what meets at it disagrees."""
        message = "" if failure else f"It depends on {broken_by!r}, which failed."
        self._record_skip(name, failure, message)
        self._cut_off(name, broken_by)

    def _skip(self, name: str, views: tuple[View, ...]) -> None:
        """Resolve the outgoing edges of a node that nothing came to."""
        taken = self._edges(name, Outcome.SKIPPED)
        merged = self._merged(name, views) if taken else None
        if isinstance(merged, Failure):
            if self._goes_on_after(merged):
                self._pass_over(name, name, merged)
            return
        self._record_skip(name)
        self._resolve(name, taken, (merged,) if merged else views)

    def _record_skip(self, name: str, failure: Failure | None = None, message: str = "") -> None:
        if name in self.topology.loops:
            self.open_loops.add(name)
        iteration = self.iterations.get(name, 0) + 1
        self.iterations[name] = iteration
        self.commands.append(RecordNodeRun(NodeRunKey(name, iteration), NodeRunStatus.SKIPPED, failure, message))

    def _edges(self, name: str, outcome: Outcome) -> list[int]:
        return [i for i in self.topology.outgoing[name] if outcome in self.graph.edges[i].on]

    def _resolve(self, name: str, taken: Collection[int], views: tuple[View, ...]) -> None:
        """Take these edges of a node, and skip the others."""
        self._send(name, taken, Token(is_taken=False, views=views if self.topology.asks_skipped else ()), views)

    def _send(self, name: str, taken: Collection[int], skipped: Token, views: tuple[View, ...] = ()) -> None:
        self.passed.add(name)
        token = Token(is_taken=True, views=views)
        for i in self.topology.outgoing[name]:
            came = token if i in taken else skipped
            if i not in self.topology.exits and i not in self.topology.back_edges:
                self._arrive(i, came)
            elif came.is_taken or i not in self.held or not self.held[i].is_taken:
                self.held[i] = came

    def _arrive(self, index: int, token: Token) -> None:
        """Resolve an edge for good, and reach its target if that was the last it waited for."""
        if self.status.is_final:
            return
        edge = self.graph.edges[index]
        is_late = edge.target in self.started
        self.commands.append(RecordEdge(index, edge.source, edge.target, taken=token.is_taken and not is_late))
        if is_late:
            self.resolved[index] = None
            return
        self.resolved[index] = token
        waited_for = self.topology.joins[edge.target]
        enough = self.topology.nodes[edge.target].join
        is_decided = all(i in self.resolved for i in waited_for)
        if enough is None and not is_decided:
            return
        decided = [i for i in waited_for if i in self.resolved]
        came = [each for i in decided if (each := self.resolved[i]) is not None]
        taken = [each for each in came if each.is_taken]
        has_enough = enough is not None and len(taken) >= enough
        if has_enough or is_decided:
            self.resolved.update(dict.fromkeys(decided))
            self._reach(edge.target, taken if has_enough else came)
        if has_enough and not is_decided:
            self._start_early(edge.target)

    def _start_early(self, join: str) -> None:
        """Stop what can only lead to a join that waits for nothing more."""
        self.started.add(join)
        self.unneeded = unneeded(self.graph, self.topology, self.started)
        for key in [key for key in self.active if key.node in self.unneeded]:
            self.cancel(key, _UNNEEDED)
            self._resolve(key.node, (), ())

    def _reach(self, name: str, came: list[Token]) -> None:
        """Let a node run over what came, once nothing more can come; skip it if nothing did."""
        if name in self.unneeded:
            self.reached.append((name, Token(is_taken=False)))
            return
        if broken := [token for token in came if token.broken_by is not None]:
            self.reached.append((name, broken[0]))
            return
        views = [token.views[0] for token in came if token.is_taken]
        if not views:
            # Of several that saw the same, one will do.
            skipped = {view.heads: view for token in came for view in token.views}
            self.reached.append((name, Token(is_taken=False, views=tuple(skipped.values()))))
            return
        merged = self._merged(name, views)
        if isinstance(merged, View):
            self.reached.append((name, Token(is_taken=True, views=(merged,))))
        elif self._goes_on_after(merged):
            self._pass_over(name, name, merged)

    def _merged(self, name: str, views: Sequence[View]) -> View | Failure:
        merged, conflicts = merge(self.parents, views)
        return self.conflict(conflicts[0], f"before they meet at {name!r}", name) if conflicts else merged

    # Loops of ordinary edges

    def _turn_loop(self) -> bool:
        """Start the next iteration of a loop whose present one is over, or end the loop; inner ones first."""
        for header, loop in self.topology.loops.items():
            if header in self.open_loops and loop.nodes <= self.passed:
                self._turn(loop)
                return True
        return False

    def _turn(self, loop: Loop) -> None:
        back = [self.held.pop(i) for i in loop.back_edges]
        # Nothing follows on an iteration in which something failed.
        names = [node.name for node in self.graph.nodes if node.name in loop.nodes] if self.broken else []
        failures = [self.broken[name] for name in names if name in self.broken]
        goes_on = not failures and any(token.is_taken for token in back)
        for i, held in zip(loop.back_edges, back, strict=True):
            edge = self.graph.edges[i]
            self.commands.append(RecordEdge(i, edge.source, edge.target, taken=goes_on and held.is_taken))
        if goes_on:
            self.passed -= loop.nodes
            # What enters the loop is decided once for all of its iterations.
            if inside := self.started & (loop.nodes - {loop.header}):
                self.started -= inside
                self.unneeded = unneeded(self.graph, self.topology, self.started)
            for i in loop.inside:
                self.resolved.pop(i, None)
            self._reach(loop.header, back)
            return
        self.open_loops.discard(loop.header)
        failed = Token(is_taken=False, broken_by=failures[0]) if failures else None
        for i in loop.exits:
            # A back edge that leaves this loop starts the next iteration of one around it, and stays held until then.
            if i not in self.topology.back_edges:
                held = self.held.pop(i)
                self._arrive(i, failed or held)

    # How a run ends

    def _complete(self) -> None:
        if self.failure:
            self.finish(RunStatus.FAILED, self.failure)
            return
        order = [name for name in self.topology.ends if name in self.ended]
        if not order:
            stopped = [repr(node.name) for node in self.graph.nodes if node.name in self.stopped]
            message = f"No path reached an end: no edge was taken from {' and '.join(stopped)}."
            self.finish(RunStatus.FAILED, Failure("end_not_reached", message))
            return
        view, conflicts = merge(self.parents, [self.ended[name] for name in order])
        if conflicts:
            failure = self.conflict(conflicts[0], f"before the ends {' and '.join(map(repr, order))}")
            self.finish(RunStatus.FAILED, failure)
        else:
            self.finish(RunStatus.COMPLETED, state=view.state)
