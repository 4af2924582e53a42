"""How tokens move along the edges of a graph, until nothing moves without an attempt.

Each edge of the graph comes to be taken, by a `Token` that carries a view, or skipped; a node whose incoming edges have
all resolved runs once, over the merge of the views that came, or is skipped in its turn (dead-path elimination). A join
may start with the first that come; what can lead nowhere else is then cancelled, or skipped before it begins. Back
edges do not count for that: what arrives on one starts its loop's next iteration once the present one is over, and the
edges that leave a loop resolve when the loop ends. A node that failed for good is left by the edges that ask for that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from sandgraph.model.commands import RecordEdge, RecordNodeRun
from sandgraph.model.draft import Draft
from sandgraph.model.graph import Node, OnError, Outcome
from sandgraph.model.joins import unneeded
from sandgraph.model.progress import Token
from sandgraph.model.run import Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import View, merge
from sandgraph.model.topology import Loop

_UNNEEDED = "What it leads to has started without it."


class Tokens(Draft, ABC):
    """A run being changed, whose tokens move."""

    @abstractmethod
    def begin(self, node: Node, view: View, lap: int = 1) -> None:
        """Begin a node run over a view; ``lap`` is a loop node's iteration since it was entered."""

    def settle(self) -> None:
        """Move tokens until nothing moves without an attempt; then the run goes on, or is over."""
        if self.status is RunStatus.PENDING:
            return
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
                self.begin(self.topology.nodes[name], token.views[0])
            else:
                self._skip(name, token.views)
        if not self.status.is_final and not self.in_progress():
            self._complete()

    def leave(self, node: Node, view: View, answers: tuple[bool, ...]) -> None:
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

    def break_off(self, node: Node, view: View, outcome: Outcome, failure: Failure) -> None:
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
        self.commands.append(RecordNodeRun(self.next_key(name), NodeRunStatus.SKIPPED, failure, message))

    def next_key(self, name: str) -> NodeRunKey:
        """Return the key of a node's next node run."""
        if name in self.topology.loops:
            self.open_loops.add(name)
        iteration = self.iterations.get(name, 0) + 1
        self.iterations[name] = iteration
        return NodeRunKey(name, iteration, self.scope)

    def _record_edge(self, index: int, *, taken: bool) -> None:
        edge = self.graph.edges[index]
        self.commands.append(RecordEdge(index, edge.source, edge.target, taken, self.scope))

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
        self._record_edge(index, taken=token.is_taken and not is_late)
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
        for key in [key for key in self.in_progress() if key.node in self.unneeded]:
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
            self._record_edge(i, taken=goes_on and held.is_taken)
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
