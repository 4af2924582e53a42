"""A run being changed by one event, and the commands that follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordNodeRun,
    RecordRun,
    StartAttempt,
    StopAttempt,
)
from sandgraph.model.graph import Node, NodeType
from sandgraph.model.progress import Active, Run, Token
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import MergeConflict, State, StateDiff, View, compact

#: Keys whose deletion a run remembers beyond one a key of its state, before it looks which it may forget.
_DELETED_KEYS_KEPT = 1_000

#: Keys that a branch may delete while others are open, as a join must know of each; with more its run fails.
MAX_DELETED_KEYS = 10_000

#: Commits after which those that nothing refers to are dropped.
_COMPACT_EVERY = 256

_PAUSED = "The run is paused."


class Draft:
    """Mutable copies of a run's parts, and what is recorded whenever they change.

    Args:
        run: As it was before the event.
        outer: Of the run that this one is a subgraph's of.
    """

    def __init__(self, run: Run, outer: Draft | None = None) -> None:
        self.run = run
        self.outer = outer
        self.root: Draft = outer.root if outer else self
        self.graph = run.graph
        self.topology = run.topology
        self.scope = run.scope
        self.reducers = dict(run.graph.reducers)
        self.status = run.status
        self.active = dict(run.active)
        self.waits = dict(run.waits)
        self.maps = dict(run.maps)
        self.inside = dict(run.inside)
        self.resolved = dict(run.resolved)
        self.held = dict(run.held)
        self.passed = set(run.passed)
        self.open_loops = set(run.open_loops)
        self.iterations = dict(run.iterations)
        self.ended = dict(run.ended)
        self.stopped = set(run.stopped)
        self.started = set(run.started)
        self.unneeded = run.unneeded
        self.broken = dict(run.broken)
        self.failure = run.failure
        self.parents = dict(run.parents)
        self.authors = dict(run.authors)
        self.latest = run.latest
        self.commits: int = outer.commits if outer else run.commits
        self.steps = run.steps
        self.mail = dict(run.mail)
        self.waited = run.waited
        self.is_paused = run.is_paused
        #: Where a node did not begin as there would have been too many steps here: that is for no edge to handle.
        self.exceeded: Failure | None = None
        self.commands: list[Command] = []
        self.reached: deque[tuple[str, Token]] = deque()
        #: What the run came to, once it ended.
        self.outcome: tuple[Failure | None, State] = (None, {})

    def freeze(self) -> Run:
        """Return the run as it is now."""
        self._forget()
        run = self.run
        # All of them by name: `replace` would look at each field to find the five that stay.
        return Run(
            graph=run.graph,
            topology=run.topology,
            subgraphs=run.subgraphs,
            graph_id=run.graph_id,
            scope=run.scope,
            status=self.status,
            active=self.active,
            waits=self.waits,
            maps=self.maps,
            inside=self.inside,
            resolved=self.resolved,
            held=self.held,
            passed=frozenset(self.passed),
            open_loops=frozenset(self.open_loops),
            iterations=self.iterations,
            ended=self.ended,
            stopped=frozenset(self.stopped),
            started=frozenset(self.started),
            unneeded=self.unneeded,
            broken=self.broken,
            failure=self.failure,
            parents=self.parents,
            authors=self.authors,
            latest=self.latest,
            commits=self.commits,
            steps=self.steps,
            mail=self.mail,
            waited=self.waited,
            is_paused=self.is_paused,
        )

    def in_progress(self) -> list[NodeRunKey]:
        """Return the node runs of this graph that have not ended; neither a map's items nor what is in subgraphs."""
        own = [key for key in self.active if key.scope == self.scope]
        return [*own, *self.waits, *self.maps, *self.inside]

    def items_of(self, key: NodeRunKey) -> list[NodeRunKey]:
        """Return the items of a map that are in progress."""
        path = key.path
        return [each for each in self.active if each.scope == path]

    def finish(self, status: RunStatus, failure: Failure | None = None, state: State | None = None) -> None:
        """End the run and cancel what is in progress; ``state`` is its final one, or else all that was committed."""
        for key in self.in_progress():
            self.cancel(key)
        self.reached.clear()
        self.status = status
        final = self.latest if state is None else state
        self.outcome = (failure, final or {})
        if self.outer is None:
            self.commands.append(RecordRun(status, failure, final))

    def cancel(self, key: NodeRunKey, message: str = "") -> None:
        """Stop a node run that is in progress, and all that is part of it."""
        if key in self.active:
            self.cancel_attempts([key], message)
            return
        self.stop(key)
        self.commands.append(RecordNodeRun(key, NodeRunStatus.CANCELLED, message=message))

    def stop(self, key: NodeRunKey) -> None:
        """Stop what a wait, a map or a subgraph consists of; how itself ends is the caller's to tell."""
        if inner := self.inside.pop(key, None):
            within = Draft(inner.run, self)
            for each in within.in_progress():
                within.cancel(each)
            self.commands += within.commands
        elif self.maps.pop(key, None):
            self.cancel_attempts(self.items_of(key))
        else:
            del self.waits[key]

    def cancel_attempts(self, keys: Iterable[NodeRunKey], message: str = "") -> None:
        """Stop node runs that have an attempt, or one to come."""
        for key in keys:
            active = self.active.pop(key)
            if not active.is_waiting:
                self.commands.append(RecordAttempt(key, active.attempt, AttemptStatus.CANCELLED))
                self.commands.append(StopAttempt(key, active.attempt))
            self.commands.append(RecordNodeRun(key, NodeRunStatus.CANCELLED, message=message))

    def conflict(self, conflict: MergeConflict, where: str, node: str | None = None) -> Failure:
        """Return the failure of branches that met and disagree."""
        first, second = self.authors[conflict.first], self.authors[conflict.second]
        who = f"{first!r} and {second!r}" if first != second else f"Two iterations of {first!r}"
        message = f"{who} changed the key {conflict.key!r} {where}, and neither saw what the other did."
        if conflict.reason:
            message = (
                f"What {who} did to the key {conflict.key!r} {where} cannot be brought together: {conflict.reason}."
            )
        return Failure("state_conflict", message, node=node)

    def over_bounds(self, node: Node, view: View, steps: int) -> Failure | None:
        """Return why a node may not begin, or count its steps."""
        counting: list[Draft] = []
        draft: Draft | None = self
        failure, path = None, node.name
        while draft is not None:
            counting.append(draft)
            most, total = draft.graph.max_steps, draft.steps + steps
            if total > most:
                message = f"The run took {most} steps and would go on at {node.name!r}."
                if steps > 1:
                    message = f"The run may take {most} steps; with those of {node.name!r} there are {total}."
                failure = draft.exceeded = Failure("max_steps_exceeded", message, node=path)
            path = f"{_name_in(draft.scope)}/{path}"
            draft = draft.outer
        if failure is None and len(view.writers) - len(view.state) > MAX_DELETED_KEYS:
            message = f"Before {node.name!r} a branch deleted more than {MAX_DELETED_KEYS} keys while others were open."
            failure = Failure("too_many_deleted_keys", message, node=node.name)
        if failure is None:
            for each in counting:
                each.steps += steps
        return failure

    def exceeded_around(self) -> Failure | None:
        """Return why this run, or one around it, is to end at once, if one is."""
        outer = self.outer.exceeded_around() if self.outer else None
        return outer or self.exceeded

    def attempt(self, key: NodeRunKey, active: Active, *, is_new: bool = False) -> None:
        """Start an attempt of a node run, or let it wait for as long as the run is paused."""
        if self.root.is_paused:
            self.active[key] = replace(active, is_waiting=True, is_held=True)
            # Waiting is what a node run begins with, and not what it goes back to.
            status = NodeRunStatus.WAITING if is_new else NodeRunStatus.RETRYING
            self.commands.append(RecordNodeRun(key, status, message=_PAUSED))
            return
        if is_new:
            self.commands.append(RecordNodeRun(key, NodeRunStatus.RUNNING))
        self.active[key] = active
        node = self.topology.nodes[key.node]
        is_loop = node.type is NodeType.LOOP
        self.commands.append(
            StartAttempt(
                key,
                active.attempt,
                active.view,
                is_entry=is_loop and active.lap == 1 and not active.asks_only,
                is_last=is_loop and active.lap >= (node.max_iterations or 1),
                graph_id=self.run.graph_id,
                item=active.item,
                asks_only=active.asks_only,
            )
        )

    def commit(self, key: NodeRunKey, attempt: int | None, view: View, diff: StateDiff) -> View:
        """Commit what a node run changed, and return the view after that."""
        diff = diff.reduced(view.state, self.reducers).without_idle_deletes(view.state)
        # Nothing but this view's heads is left: whatever lives has seen the same.
        alone = len(self.parents) == 1
        number = self.commits = self.commits + 1
        self.parents[number] = view.heads
        self.authors[number] = key.node
        after = view.after(number, diff, alone=alone)
        merged = view.merged_ops()
        self.commands.append(RecordCommit(number, view.heads, diff, key, attempt, view.trunk, merged, view, after))
        if self.latest is view.state:
            self.latest = after.state
        else:
            latest = dict(self.latest or {})
            diff.apply_to(latest, lenient=True)
            self.latest = latest
        if len(after.writers) > 2 * len(after.state) + _DELETED_KEYS_KEPT:
            return after.without_old_deletions(self.parents)
        return after

    def _forget(self) -> None:
        """Drop what no merge can ask about any more: above all, commits before the live branches parted."""
        live = [active.view for active in self.active.values()]
        live += (each.view for kind in (self.waits, self.maps, self.inside) for each in kind.values())
        live += (view for token in self.resolved.values() if token is not None for view in token.views)
        live += (view for token in self.held.values() for view in token.views)
        live += self.ended.values()
        heads = {view.heads for view in live}
        if len(heads) == 1:
            self.parents = dict.fromkeys(heads.pop(), ())
        elif self.commits // _COMPACT_EVERY > self.run.commits // _COMPACT_EVERY and live:
            self.parents = dict(compact(self.parents, live))
        else:
            return
        self.authors = {number: self.authors[number] for number in self.parents if number in self.authors}


def _name_in(scope: str) -> str:
    """Return the name of the node whose node run has this path."""
    name = scope.rpartition("/")[2].rpartition("#")[0]
    return name.replace("~2", "#").replace("~1", "/").replace("~0", "~")
