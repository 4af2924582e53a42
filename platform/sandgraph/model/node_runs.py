"""What node runs of each type do from their begin to their end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sandgraph.model.commands import RecordAttempt, RecordEvent, RecordNodeRun, ScheduleTimer
from sandgraph.model.events import Event, EventReceived
from sandgraph.model.graph import Node, NodeType, OnError, Outcome
from sandgraph.model.progress import Active, Inner, Mapped, Run, Token, Wait
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.scopes import outputs
from sandgraph.model.state import Json, SetKey, State, StateDiff, View
from sandgraph.model.tokens import Tokens
from sandgraph.model.values import kind_of, same

_REOPENED = Failure(AttemptStatus.LOST.value, "It ran in the run that this one goes on with.")


class NodeRuns(Tokens, ABC):
    """A run being changed, whose node runs begin and end."""

    @abstractmethod
    def inner(self, run: Run) -> NodeRuns:
        """Return the draft of a subgraph's run."""

    @abstractmethod
    def take(self, event: Event) -> bool:
        """Let an event happen, and tell whether it changed anything."""

    def enter(self, view: View) -> None:
        """Start the run over a view."""
        self.status = RunStatus.RUNNING
        self.parents = dict.fromkeys(view.heads, ())
        self.latest = view.state
        self.reached.append((self.graph.entry, Token(is_taken=True, views=(view,))))

    def begin(self, node: Node, view: View, lap: int = 1) -> None:
        """Begin a node run over a view; ``lap`` is a loop node's iteration since it was entered."""
        key = self.next_key(node.name)
        steps = 0 if node.type in {NodeType.START, NodeType.END} else 1
        items = view.state.get(node.items) if node.items is not None else None
        if isinstance(items, list):
            steps += len(items)
        if failure := self.over_bounds(node, view, steps):
            self.finish(RunStatus.FAILED, failure)
            return
        match node.type:
            case NodeType.WAIT:
                self._begin_wait(key, node, view)
            case NodeType.MAP:
                self._begin_map(key, node, view)
            case NodeType.SUBGRAPH:
                self._begin_subgraph(key, node, view)
            case _ if node.function is not None:
                self.attempt(key, Active(view, lap=lap), is_new=True)
            case _:
                self._record_running(key)
                self.conclude(key, node, view)

    def conclude(self, key: NodeRunKey, node: Node, view: View) -> None:
        """Ask the conditions behind a node run that has made its commit, in an attempt of its own; or let it end."""
        if any(self.graph.edges[i].condition for i in self.topology.outgoing[node.name]):
            self.attempt(key, Active(view, asks_only=True))
            return
        self.commands.append(RecordNodeRun(key, NodeRunStatus.SUCCEEDED))
        self.leave(node, view, ())

    def fail_node_run(self, key: NodeRunKey, view: View, outcome: Outcome, failure: Failure) -> None:
        """End a node run that failed for good."""
        self.commands.append(RecordNodeRun(key, NodeRunStatus(outcome.value), failure))
        self.break_off(self.topology.nodes[key.node], view, outcome, failure)

    def time_out(self, key: NodeRunKey) -> None:
        """End a wait, a map or a subgraph whose time is over."""
        node = self.topology.nodes[key.node]
        view = (self.waits.get(key) or self.maps.get(key) or self.inside[key]).view
        if key in self.waits and node.event is None:
            del self.waits[key]
            self.conclude(key, node, view)
            return
        what = f"waited for the event {node.event!r}" if key in self.waits else "took"
        message = f"{key} {what} longer than the {self._timeout_s(node) or 0:g} s it may."
        self.stop(key)
        self.fail_node_run(key, view, Outcome.TIMED_OUT, Failure("timeout", message, node=node.name))

    def _record_running(self, key: NodeRunKey) -> None:
        self.commands.append(RecordNodeRun(key, NodeRunStatus.RUNNING))

    def _timeout_s(self, node: Node) -> float | None:
        bounds = [node.timeout_s]
        if node.type is NodeType.SUBGRAPH:
            bounds.append(self.run.subgraphs[node.graph_id or ""].graph.timeout_s)
        return min((bound for bound in bounds if bound is not None), default=None)

    def _limit_time(self, key: NodeRunKey, node: Node) -> None:
        timeout_s = self._timeout_s(node)
        if timeout_s is not None:
            self.commands.append(ScheduleTimer(key, timeout_s))

    # All that is in progress

    def unhold(self) -> None:
        """Start the attempts that were held while the run was paused."""
        for key, active in list(self.active.items()):
            if active.is_held:
                self.attempt(key, replace(active, is_waiting=False, is_held=False))
        for key in list(self.inside):
            self.within(key, NodeRuns.unhold)

    def reopen(self) -> None:
        """Make the attempts in progress anew; none before them counts against retries."""
        for key, active in list(self.active.items()):
            number = active.attempt
            if not active.is_waiting:
                self.commands.append(RecordAttempt(key, number, AttemptStatus.LOST, _REOPENED))
                number += 1
            again = replace(active, attempt=number, lost=0, earlier=number - 1, is_waiting=False, is_held=False)
            self.attempt(key, again)
        for key in list(self.inside):
            self.within(key, NodeRuns.reopen)

    # Waits

    def _begin_wait(self, key: NodeRunKey, node: Node, view: View) -> None:
        mail = self.root.mail.pop(node.event, ()) if node.event is not None else ()
        if mail:
            if len(mail) > 1:
                self.root.mail[mail[0].name] = mail[1:]
            self._record_running(key)
            self._take(key, view, mail[0])
            return
        what = f"It waits for the event {node.event!r}." if node.event is not None else "It waits for its time."
        self.commands.append(RecordNodeRun(key, NodeRunStatus.WAITING, message=what))
        self.root.waited += 1
        self.waits[key] = Wait(view, node.event, self.root.waited)
        self._limit_time(key, node)

    def deliver(self, way: Sequence[NodeRunKey], event: EventReceived) -> None:
        """Give an event to the node run that waits for it: the last on the way through subgraphs to it."""
        key, *further = way
        if further:
            self.within(key, lambda inner: inner.deliver(further, event))
        else:
            self._take(key, self.waits.pop(key).view, event)

    def _take(self, key: NodeRunKey, view: View, event: EventReceived) -> None:
        node = self.topology.nodes[key.node]
        self.commands.append(RecordEvent(event.name, event.event_id, key))
        if event.payload is not None:
            view = self._commit_own(key, view, StateDiff((SetKey(node.into or event.name, event.payload),)))
        self.conclude(key, node, view)

    # Maps

    def _begin_map(self, key: NodeRunKey, node: Node, view: View) -> None:
        self._record_running(key)
        items: Json = view.state.get(node.items or "")
        if not isinstance(items, list):
            found = f"is {kind_of(items)}" if node.items in view.state else "is not in the state"
            message = f"The key {node.items!r} {found}; a map needs a list."
            self.fail_node_run(key, view, Outcome.FAILED, Failure("map_items_invalid", message, node=node.name))
            return
        self.maps[key] = Mapped(view, len(items))
        self._limit_time(key, node)
        self._go_on_with_map(key)

    def end_item(self, key: NodeRunKey, item: int, result: Json | Failure) -> None:
        """Take the result of a map's item, or why it failed for good, and go on with the map."""
        of = next(each for each in self.maps if each.path == key.scope)
        mapped = self.maps[of]
        if not isinstance(result, Failure):
            self.maps[of] = replace(mapped, results={**mapped.results, item: result})
        elif self.graph.on_error is OnError.FAIL_FAST:
            self.stop(of)
            self._fail_map(of, mapped, {item: result})
            return
        else:
            self.maps[of] = replace(mapped, failures={**mapped.failures, item: result})
        self._go_on_with_map(of)

    def _go_on_with_map(self, key: NodeRunKey) -> None:
        """Begin as many items as may run at the same time; end the map once all are done."""
        node, mapped = self.topology.nodes[key.node], self.maps[key]
        running = mapped.begun - len(mapped.results) - len(mapped.failures)
        first = mapped.begun
        last = min(mapped.size, first + node.max_concurrency - running)
        self.maps[key] = mapped = replace(mapped, begun=last)
        for item in range(first, last):
            self.attempt(NodeRunKey(key.node, item + 1, key.path), Active(mapped.view, item=item), is_new=True)
        if len(mapped.results) + len(mapped.failures) < mapped.size:
            return
        del self.maps[key]
        if mapped.failures:
            self._fail_map(key, mapped, mapped.failures)
            return
        results: list[Json] = [mapped.results[item] for item in range(mapped.size)]
        view = self._commit_own(key, mapped.view, StateDiff((SetKey(node.into or "", results),)))
        self.conclude(key, node, view)

    def _fail_map(self, key: NodeRunKey, mapped: Mapped, failures: Mapping[int, Failure]) -> None:
        first = min(failures)
        more = len(failures) - 1
        others = f" (and {more} more item{'s' if more > 1 else ''} failed)" if more else ""
        failure = replace(failures[first], message=f"Item {first}: {failures[first].message}{others}", node=key.node)
        self.fail_node_run(key, mapped.view, Outcome.FAILED, failure)

    # Subgraphs

    def _begin_subgraph(self, key: NodeRunKey, node: Node, view: View) -> None:
        self._record_running(key)
        blueprint = self.run.subgraphs[node.graph_id or ""]
        run = Run(
            blueprint.graph,
            blueprint.topology,
            subgraphs=self.run.subgraphs,
            graph_id=node.graph_id,
            scope=key.path,
        )
        self.inside[key] = Inner(view, run)
        self._limit_time(key, node)
        inside = view.inside(node.inputs)

        self.within(key, lambda inner: inner.enter(inside))

    def within(self, key: NodeRunKey, act: Callable[[NodeRuns], bool | None]) -> bool:
        """Let something happen inside a subgraph, and tell whether anything did: ``act`` says False if not."""
        inner = self.inside[key]
        draft = self.inner(inner.run)
        if act(draft) is False:
            return False
        draft.settle()
        self.commits = draft.commits
        self.commands += draft.commands
        if exceeded := self.exceeded_around():
            self.inside[key] = replace(inner, run=draft.freeze())
            self.finish(RunStatus.FAILED, exceeded)
        elif draft.status.is_final:
            del self.inside[key]
            self._end_subgraph(key, inner, *draft.outcome)
        else:
            self.inside[key] = replace(inner, run=draft.freeze())
        return True

    def _end_subgraph(self, key: NodeRunKey, inner: Inner, failure: Failure | None, final: State) -> None:
        node = self.topology.nodes[key.node]
        if failure is not None:
            failure = replace(failure, node=f"{key.node}/{failure.node}" if failure.node else key.node)
            self.fail_node_run(key, inner.view, Outcome.FAILED, failure)
            return
        diff = outputs(node, inner.view.state, inner.view.inside(node.inputs).state, final)
        view = self._commit_own(key, inner.view, diff) if diff else inner.view
        self.conclude(key, node, view)

    def _commit_own(self, key: NodeRunKey, view: View, diff: StateDiff) -> View:
        """Commit what no attempt changed, but the node run as a whole; to set what is there already is no change."""
        state = view.state
        ops = (
            op for op in diff.ops if not (isinstance(op, SetKey) and op.key in state and same(state[op.key], op.value))
        )
        return self.commit(key, None, view, StateDiff(tuple(ops)))
