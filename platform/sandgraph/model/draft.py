"""A run being changed by one event, and the commands that follow."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from sandgraph.model import events
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
from sandgraph.model.state import MergeConflict, State, View, compact

#: Keys whose deletion a run remembers beyond one a key of its state, before it looks which it may forget.
_DELETED_KEYS_KEPT = 1_000

#: Keys that a branch may delete while others are open, as a join must know of each; with more its run fails.
MAX_DELETED_KEYS = 10_000

#: Commits after which those that nothing refers to are dropped.
_COMPACT_EVERY = 256


class Draft:
    """Mutable copies of a run's parts, and what is recorded whenever they change.

    Args:
        run: As it was before the event.
    """

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
        self.started = set(run.started)
        self.unneeded = run.unneeded
        self.broken = dict(run.broken)
        self.failure = run.failure
        self.parents = dict(run.parents)
        self.authors = dict(run.authors)
        self.latest = run.latest
        self.commits = run.commits
        self.steps = run.steps
        self.commands: list[Command] = []
        self.reached: deque[tuple[str, Token]] = deque()

    def freeze(self) -> Run:
        """Return the run as it is now."""
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
            started=frozenset(self.started),
            unneeded=self.unneeded,
            broken=self.broken,
            failure=self.failure,
            parents=self.parents,
            authors=self.authors,
            latest=self.latest,
            commits=self.commits,
            steps=self.steps,
        )

    def finish(self, status: RunStatus, failure: Failure | None = None, state: State | None = None) -> None:
        """End the run and cancel what is in progress; ``state`` is its final one, or else all that was committed."""
        for key in list(self.active):
            self.cancel(key)
        self.reached.clear()
        self.status = status
        self.commands.append(RecordRun(status, failure, self.latest if state is None else state))

    def cancel(self, key: NodeRunKey, message: str = "") -> None:
        """Stop a node run that is in progress."""
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
        return Failure("state_conflict", message, node=node)

    def over_bounds(self, node: Node, view: View) -> Failure | None:
        """Count a step, and return why a node may not begin, if it may not."""
        self.steps += node.type not in {NodeType.START, NodeType.END}
        if self.steps > self.graph.max_steps:
            message = f"The run took {self.graph.max_steps} steps and would go on at {node.name!r}."
            return Failure("max_steps_exceeded", message, node=node.name)
        if len(view.writers) - len(view.state) > MAX_DELETED_KEYS:
            message = f"Before {node.name!r} a branch deleted more than {MAX_DELETED_KEYS} keys while others were open."
            return Failure("too_many_deleted_keys", message, node=node.name)
        return None

    def attempt(self, key: NodeRunKey, active: Active) -> None:
        """Start an attempt of a node run."""
        node = self.topology.nodes[key.node]
        self.active[key] = active
        is_loop = node.type is NodeType.LOOP
        is_last = is_loop and active.lap >= (node.max_iterations or 1)
        self.commands.append(StartAttempt(key, active.attempt, active.view, is_loop and active.lap == 1, is_last))

    def commit(self, event: events.AttemptSucceeded, view: View) -> View:
        """Commit what an attempt changed, and return the view after that."""
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

    def _forget(self) -> None:
        """Drop what no merge can ask about any more: above all, commits before the live branches parted."""
        live = [active.view for active in self.active.values()]
        live += (view for token in self.resolved.values() if token is not None for view in token.views)
        live += (view for token in self.held.values() for view in token.views)
        live += self.ended.values()
        heads = {view.heads for view in live}
        if len(heads) == 1:
            self.parents = dict.fromkeys(heads.pop(), ())
        elif self.commits > self.run.commits and self.commits % _COMPACT_EVERY == 0 and live:
            self.parents = dict(compact(self.parents, live))
        else:
            return
        self.authors = {number: self.authors[number] for number in self.parents if number}
